"""Reads a site's records inside its own cloud and keeps them in the site's own store."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from components.agreement.privacy_unit import ReadUnit, read_unit
from components.agreement.site_policy import task_digest
from components.agreement.ticket import UPDATE
from components.agreement.workplace import Workplace
from components.artifacts.documents import canonical_json, digest
from components.artifacts.stores import create_or_read, reference
from components.data_processing.declared_columns import DeclaredColumn, check_declarations
from components.data_processing.record_ingestion.row_manifest import Reading, row_manifest
from components.data_processing.record_ingestion.site_terms import (
    bigquery_terms,
    drift_policy,
    following_policy,
    masked_kinds,
)
from components.data_processing.template import columns_of
from components.errors import ObjectExistsError, RefusedError
from components.execution.outcome import Outcome
from components.privacy.charging import charge_ticket
from components.privacy.round_noise import is_private

if TYPE_CHECKING:
    from components.data_processing.bigquery.terms import BigQueryTerms
    from components.data_processing.record_ingestion.extraction import Extraction
    from components.data_processing.record_ingestion.unit_rows import UnitRows
    from components.data_processing.row_statistics import RowStatistics
    from components.data_processing.sources import Source

STEP_DEADLINE_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class RecordSpec:
    """What a site is asked to read.

    Attributes:
        source_kind: one that `sources.open_source` knows.
        source_uri: where the warehouse is; of BigQuery it must be the one of the site's policy.
        sql: one SELECT in BigQuery's dialect.
        template: text template; the columns it names are the only ones read beside label and split.
        label_column: with the class of a record.
        split_column: whose fingerprint decides between training and test; it does not leave the warehouse.
        test_fraction: share of fingerprints that are test, between 0 and 1.
        classes: allowed labels.
        columns: that the query must return, as the federation declares them.
    """

    source_kind: str
    source_uri: str
    sql: str
    template: str
    label_column: str
    split_column: str
    test_fraction: float
    classes: Sequence[str]
    columns: Sequence[DeclaredColumn] = ()

    @property
    def task(self) -> str:
        """`task_digest` of all but the query and the warehouse."""
        return task_digest(
            template=self.template,
            label_column=self.label_column,
            split_column=self.split_column,
            test_fraction=self.test_fraction,
            classes=self.classes,
            columns=[asdict(column) for column in self.columns],
        )


def ingest(place: Workplace, spec: RecordSpec, *, deadline_s: float = STEP_DEADLINE_S) -> Outcome:
    """Accepts the ticket and pays for it, runs the site's query and stores its rows, once a ticket.

    The manifest that the coordinator sees is `row_manifest`'s. What it rounds or leaves out stays in the
    site's store below `ingested/`: the account of every read, masked values by kind, findings of drift.

    Under a charter with an epsilon a site without training rows goes on with none: being left out would tell
    that it has none, which one row can change and epsilon does not price.

    Args:
        place: the site at work.
        spec: what it is asked to read.
        deadline_s: seconds that the step has, above 0.

    Raises:
        RefusedError: the ticket is none for an update, the site does not take part under it, or its policy
            does not admit the query, the task or the warehouse, or cannot be followed.
        PrivacyBudgetExceededError: its privacy budget does not hold the round.
        SourceUnreachableError: the warehouse is not there.
        BadDataError: the query fails, the rows do not keep the contract, or they have drifted and the
            site's policy is to stop then.
        DeadlineExceededError: the query did not end in time.
        StoreError: the temporary folder cannot hold the rows while they are sorted.
    """
    place.require_purpose(UPDATE)
    ill_formed = check_declarations(spec.columns)
    if ill_formed:
        text = "the columns that the federation declares are not well formed"
        raise RefusedError(f"{text}: {'; '.join(ill_formed)}", disclosed=text)
    place.policy.require_query(spec.sql)
    place.policy.require_task(spec.task)
    place.policy.require_warehouse(spec.source_kind, spec.source_uri)
    kinds = masked_kinds(place.policy)
    terms = bigquery_terms(place, deadline_s=deadline_s)
    now = datetime.now(UTC)
    place.accept(now)
    charge_ticket(place, now=now)
    pointer = _pointer(place)
    if not place.store.exists(pointer):
        manifest = _extract(place, spec, terms, kinds)
        document = create_or_read(place.store, pointer, json.dumps(manifest, sort_keys=True).encode())
    else:
        document = place.store.read(pointer)
    manifest = json.loads(document)
    account = manifest.get("account", {})
    return Outcome(
        reference=manifest["uri"],
        manifest=manifest,
        bytes_read=int(account.get("bytes_processed", 0)),
        findings=tuple(manifest.get("drift", ())),
    )


def remember_text(place: Workplace, *, template: str, classes: Sequence[str]) -> None:
    """Keeps in the site's store of what template and classes the ticket's rows are."""
    key = _text_key(place, template, classes)
    with contextlib.suppress(ObjectExistsError):
        place.store.create(key, canonical_json({"template": template, "classes": list(classes)}))


def require_text(place: Workplace, *, template: str, classes: Sequence[str]) -> None:
    """`RefusedError` unless `ingest` has read rows under this ticket for this template and these classes.

    They reach a later step as parameters once more; its policy's digest is of the whole task, which only
    `ingest` sees.
    """
    if not place.store.exists(_text_key(place, template, classes)):
        text = "the site has read no records under this ticket for this template and these classes"
        raise RefusedError(text, disclosed=text)


def require_counted(place: Workplace, rows: str) -> None:
    """`RefusedError` unless these rows are the ticket's, where a unit of privacy has only so many of them.

    Rows of an earlier ticket may have been counted otherwise, and a reference comes from the coordinator.
    """
    if _read_unit(place) is None:
        return
    pointer = _pointer(place)
    if not place.store.exists(pointer) or json.loads(place.store.read(pointer))["uri"] != rows:
        text = "these are not the rows that the site has counted by its unit of privacy under this ticket"
        raise RefusedError(text, disclosed=text)


def declared_columns(columns: Sequence[Mapping[str, Any]]) -> tuple[DeclaredColumn, ...]:
    """The columns that a federation declares, from a step's parameter."""
    return tuple(
        DeclaredColumn(**{**column, "allowed_values": tuple(column.get("allowed_values", ()))})
        for column in columns
    )


def _extract(
    place: Workplace, spec: RecordSpec, terms: BigQueryTerms | None, kinds: Sequence[str]
) -> dict[str, object]:
    """Rows are written once the site has accepted them, and are remembered before they are referred to."""
    from components.data_processing.drift import remember
    from components.data_processing.record_ingestion.row_shards import cut, keep_rows

    extraction, account = _read(place, spec, terms, kinds)
    with contextlib.closing(extraction.rows):
        drift = _settled_drift(place, spec, extraction.statistics)
        kept = keep_rows(place.store, place.key, cut(extraction.ordered()))
    remember(place.store, place.ticket, extraction.statistics)
    remember_text(place, template=spec.template, classes=spec.classes)
    if extraction.masked:
        _keep(place, "masked", extraction.masked)
    return row_manifest(
        reference(place.store, kept.key),
        kept,
        Reading(account=account, masked=extraction.masked, drift=drift),
        private=is_private(place.charter),
    )


def _read(
    place: Workplace, spec: RecordSpec, terms: BigQueryTerms | None, kinds: Sequence[str]
) -> tuple[Extraction, Mapping[str, str | int]]:
    """All rows, which the caller closes, and what they cost; the warehouse is closed again."""
    from components.data_processing.record_ingestion.extraction import extract

    with contextlib.closing(_opened(spec, terms)) as source:
        try:
            extraction = extract(
                source,
                spec.sql,
                template_columns=columns_of(spec.template),
                label_column=spec.label_column,
                split_column=spec.split_column,
                test_fraction=spec.test_fraction,
                classes=spec.classes,
                declared=spec.columns,
                kinds=kinds,
                parameters=tuple(terms.parameters) if terms else (),
                training_rows_required=not is_private(place.charter),
                units=_unit_rows(place),
            )
        finally:
            # What was read is paid for, whatever came of it.
            account = source.account()
            if account:
                _keep(place, "account", account)
        return extraction, account


def _unit_rows(place: Workplace) -> UnitRows | None:
    from components.data_processing.record_ingestion.unit_rows import UnitRows

    unit = _read_unit(place)
    return UnitRows(unit, place.key) if unit else None


def _read_unit(place: Workplace) -> ReadUnit | None:
    """By what the site's policy has its rows counted, under the ticket's charter."""
    return read_unit(place.policy.privacy, place.charter.privacy)


def _opened(spec: RecordSpec, terms: BigQueryTerms | None) -> Source:
    from components.data_processing.sources import open_source

    if terms is None:
        return open_source(spec.source_kind, spec.source_uri)
    with following_policy():
        return open_source(spec.source_kind, spec.source_uri, terms=terms)


def _settled_drift(place: Workplace, spec: RecordSpec, statistics: RowStatistics) -> Sequence[str]:
    """Kinds of findings that may be told; what was found stays at the site.

    Raises:
        BadDataError: there are findings, and the site's policy is to stop then.
    """
    from components.data_processing.drift import compare, last_accepted, settle

    previous = last_accepted(place.store, place.ticket)
    if previous is None:
        return ()
    policy = drift_policy(place.policy)
    declared = [column.name for column in spec.columns]
    findings = compare(
        previous,
        statistics,
        policy,
        named_columns={*columns_of(spec.template), spec.label_column, spec.split_column, *declared},
        named_classes=spec.classes,
    )
    if findings:
        _keep(place, "drift", [asdict(finding) for finding in findings])
    return settle(findings, policy, differentially_private=is_private(place.charter))


def _pointer(place: Workplace) -> str:
    return f"ingested/{place.ticket.digest}.json"


def _text_key(place: Workplace, template: str, classes: Sequence[str]) -> str:
    name = digest(canonical_json({"template": template, "classes": list(classes)}))
    return f"ingested/{place.ticket.digest}/text-{name}.json"


def _keep(place: Workplace, name: str, content: object) -> None:
    """Keeps what is the site's own beside the ticket; an attempt that finds something else keeps that too."""
    document = json.dumps(content, indent=1, sort_keys=True, default=dict).encode()
    key = f"ingested/{place.ticket.digest}/{name}-{hashlib.sha256(document).hexdigest()[:16]}.json"
    with contextlib.suppress(ObjectExistsError):
        place.store.create(key, document)
