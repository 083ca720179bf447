"""All checks of a federation in the order in which a round would meet what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from components.agreement.charter import Charter
from components.agreement.noise_terms import ROW
from components.agreement.privacy_unit import ReadUnit, read_unit
from components.agreement.site_policy import SitePolicy, load_policy
from components.data_processing.bigquery.statement import parse_statement
from components.data_processing.bigquery.terms import BigQueryTerms
from components.data_processing.record_ingestion.ingestion import declared_columns
from components.data_processing.record_ingestion.site_terms import masked_kinds
from pipelines.diagnosis import agreed_file, parties
from pipelines.diagnosis.bigquery_source import bigquery_findings, terms_of
from pipelines.diagnosis.findings import Finding, NotCheckedError, look
from pipelines.diagnosis.records import Wanted, file_findings
from pipelines.diagnosis.stores import probe
from pipelines.federation import Federation
from pipelines.federation_sections import Site

FEDERATION = "federation"
_ELSEWHERE = "its policy is not on this machine: its people run 'crosscloud doctor --as {site}' on theirs"


def examine(
    federation: Federation, *, site: str = "", offline: bool = False, now: datetime
) -> Iterator[Finding]:
    """Looks at the federation, and at every site that has its policy on this machine.

    Args:
        federation: as its file says.
        site: the one to be looked at alone, which must have its policy here; all by default.
        offline: whether no network and no warehouse may be asked.
        now: with its time zone; a round opened now would read as of it.

    Raises:
        UnknownSiteError: the federation has no such site.
    """
    chosen = [federation.site(site)] if site else federation.sites
    yield from look(FEDERATION, "charter terms", lambda: agreed_file.charter_terms(federation))
    yield from look(FEDERATION, "compile", lambda: agreed_file.compiled(federation))
    if federation.schedule is not None and federation.privacy is not None:
        yield from look(FEDERATION, "schedule", lambda: agreed_file.allowance(federation, now=now))
    agreed: list[Charter] = []

    def charter() -> str:
        agreed.append(parties.charter_signed(federation, offline=offline))
        return parties.file_agrees(federation, agreed[0])

    yield from look(FEDERATION, "charter", charter)
    yield from look(FEDERATION, "encoder", lambda: agreed_file.encoder(federation, offline=offline))
    here = [each for each in chosen if site or parties.has_policy(federation, each.name)]
    if here:
        yield from look(FEDERATION, "exchange", lambda: _probed(federation.exchange_uri, offline=offline))
    for each in chosen:
        at = _AtSite(federation, each, agreed[0] if agreed else None, now=now, offline=offline)
        yield from at.told_by_the_file()
        if each in here:
            yield from at.told_at_the_site()
        else:
            reason = _ELSEWHERE.format(site=each.name)
            yield Finding(party=each.name, check="policy", state="not checked", text=reason)


class _AtSite:
    """The checks of one site."""

    def __init__(
        self, federation: Federation, site: Site, charter: Charter | None, *, now: datetime, offline: bool
    ) -> None:
        self._federation, self._site, self._charter = federation, site, charter
        self._now, self._offline = now, offline
        task = federation.task
        declared = declared_columns([column.model_dump() for column in task.columns])
        self._wanted = Wanted(sql=site.data.sql, task=task, declared=declared, unit=_unit_of(federation))
        self._read_policy: SitePolicy | None = None

    def told_by_the_file(self) -> Iterator[Finding]:
        """What the query's own text shows."""
        yield from look(self._site.name, "query", self._query)
        yield from look(self._site.name, "selection", self._wanted.check_selected)

    def told_at_the_site(self) -> Iterator[Finding]:
        """What its policy, keys, ledger, warehouse and store show."""
        federation, site, name = self._federation, self._site, self._site.name
        offline, charter = self._offline, self._charter
        yield from look(name, "policy", self._agreeing)
        yield from look(name, "masking", self._masking)
        yield from look(name, "keys", lambda: parties.keys(federation, site, offline=offline))
        yield from look(
            name,
            "privacy",
            lambda: parties.privacy(
                federation, site, self._policy().privacy, charter, now=self._now, offline=offline
            ),
        )
        yield from self._warehouse()
        yield from look(name, "store", lambda: _probed(site.store_uri, offline=offline))

    def _query(self) -> str:
        data = self._site.data
        if data.bigquery is None:
            self._wanted.statement()
            return "one SELECT in BigQuery's dialect"
        project, dataset = data.bigquery_address
        parameters = tuple(data.bigquery.parameters)
        self._wanted.statement(parameters)
        query = parse_statement(data.sql, project=project, default_dataset=dataset, declared=parameters)
        tables = ", ".join(map(str, query.tables()))
        used = ", ".join(f"@{name}" for name in sorted(query.parameters)) or "no parameter"
        return f"one SELECT over {tables} with {used}"

    def _agreeing(self) -> str:
        self._read_policy = load_policy(self._federation.keys_uri, self._site.name)
        told = parties.policy_agrees(self._federation, self._site, self._charter)
        if self._charter is not None:
            unit = read_unit(self._read_policy.privacy, self._charter.privacy)
            self._wanted = replace(self._wanted, unit=unit)
        return told

    def _policy(self) -> SitePolicy:
        if self._read_policy is None:
            raise NotCheckedError("the site has no policy that can be read")
        return self._read_policy

    def _masking(self) -> str:
        kinds = masked_kinds(self._policy())
        return f"{', '.join(kinds)} are masked in texts" if kinds else "nothing is masked in texts"

    def _warehouse(self) -> Iterator[Finding]:
        data, name = self._site.data, self._site.name
        if self._offline:
            reason = "--offline asks no warehouse: its identity, schema, policy tags, location and cost"
            yield Finding(party=name, check="source", state="not checked", text=reason)
            return
        if data.bigquery is None:
            yield from file_findings(name, self._wanted, data.source, data.uri)
            return
        terms: list[BigQueryTerms] = []

        def agreed() -> str:
            policy = self._policy()
            policy.require_warehouse(data.source, data.uri)
            if policy.bigquery is not None:
                federation = self._federation.federation
                terms.append(terms_of(policy.bigquery, federation=federation, site=name, snapshot=self._now))
            return f"{data.uri} is read on the terms of the site's policy"

        yield from look(name, "source", agreed)
        for each in terms:
            yield from bigquery_findings(name, self._wanted, each)


def _unit_of(federation: Federation) -> ReadUnit | None:
    """The unit of privacy that the file names a column for; a site's policy may name one beside."""
    asked = federation.privacy
    if asked is None or asked.unit == ROW:
        return None
    return ReadUnit(column=asked.unit, rows=asked.rows_per_unit, clipped=True)


def _probed(uri: str, *, offline: bool) -> str:
    if offline:
        raise NotCheckedError("--offline writes nothing")
    return probe(uri)
