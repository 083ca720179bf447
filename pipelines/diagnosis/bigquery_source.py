"""A site's BigQuery, asked what costs nothing: metadata of tables, and dry runs.

Everything is asked with the site's own identity, on the terms of its policy and as of the moment that a round
opened now would read, in the order in which a round would meet it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from components.agreement.data_policy import BigQueryPolicy
from components.data_processing.bigquery import jobs
from components.data_processing.bigquery.arrow_types import arrow_schema
from components.data_processing.bigquery.columns_read import columns_read
from components.data_processing.bigquery.connection import Connection, connect, has_storage, retrying
from components.data_processing.bigquery.failures import explained
from components.data_processing.bigquery.identity import anonymous, application_default
from components.data_processing.bigquery.policy_tags import check_policy_tags
from components.data_processing.bigquery.residency import check_locations
from components.data_processing.bigquery.statement import Statement, parse_statement
from components.data_processing.bigquery.table_schema import (
    TableName,
    TableSchema,
    check_history,
    read_schema,
)
from components.data_processing.declared_columns import bigquery_fields
from components.data_processing.record_ingestion.site_terms import following_policy, terms_of_policy
from components.errors import RefusedError, UsageError
from pipelines.diagnosis.findings import Finding, NotCheckedError, look
from pipelines.diagnosis.records import Wanted

if TYPE_CHECKING:
    from google.cloud import bigquery

    from components.data_processing.bigquery.terms import BigQueryTerms

DEADLINE_S = 15.0
_LEAST_BILLED_A_TABLE = 10 * 1024 * 1024


def bigquery_findings(
    site: str, wanted: Wanted, terms: BigQueryTerms, *, deadline_s: float = DEADLINE_S
) -> Iterator[Finding]:
    """Identity, residency, tables, schema, tags, location and cost of a site's query.

    Args:
        site: its name.
        wanted: the query and what it must return.
        terms: the site's own, with the snapshot that is to be tried.
        deadline_s: seconds for which a service that does not answer is tried again.
    """
    examination = _Examination(wanted, replace(terms, deadline_s=min(terms.deadline_s, deadline_s)))
    checks = {
        "identity": examination.identity,
        "residency": examination.reader,
        "tables": examination.tables,
        "schema": examination.schema,
        "columns": examination.columns,
        "cost": examination.cost,
        "policy tags": examination.policy_tags,
        "location": examination.location,
        "streams": examination.streams,
    }
    try:
        for name, examine in checks.items():
            yield from look(site, name, examine)
    finally:
        examination.close()


def terms_of(policy: BigQueryPolicy, *, federation: str, site: str, snapshot: datetime) -> BigQueryTerms:
    """The terms of a site's policy, as ingestion makes them for a round of this snapshot.

    Raises:
        RefusedError: the policy breaks a rule of the terms.
    """
    labels = {"federation": federation, "site": site, "step": "doctor"}
    with following_policy():
        return terms_of_policy(policy, labels=labels, snapshot=snapshot, deadline_s=DEADLINE_S)


class _Examination:
    """What later checks need of earlier ones; each check gives what is in order, in words."""

    def __init__(self, wanted: Wanted, terms: BigQueryTerms) -> None:
        self._wanted, self._terms = wanted, terms
        self._has_identity = False
        self._connection: Connection | None = None
        self._schemas: dict[TableName, TableSchema] | None = None
        self._fields: list[bigquery.SchemaField] | None = None
        self._plan: jobs.DryRun | None = None

    def identity(self) -> str:
        """As whom the site reads; a key in a file is refused."""
        try:
            found = anonymous() if self._terms.on_this_machine else application_default()
        except ImportError:
            raise UsageError(
                "reading BigQuery needs its client: pip install 'crosscloud[bigquery]'"
            ) from None
        self._has_identity = True
        where = ", as the service is on this machine" if self._terms.on_this_machine else ""
        return f"{found.kind}{where}"

    def reader(self) -> str:
        """Whether rows may take their way to this reader."""
        if not self._has_identity:
            raise NotCheckedError("it depends on the identity")
        self._connection = connect(self._terms)
        declared = self._terms.data_residency
        if declared is None and self._terms.on_this_machine:
            return "the service is on this machine, and nothing is declared"
        if declared is None:
            return "rows stay in Google Cloud, and nothing else is declared"
        leave = "may" if declared.may_leave else "may not"
        return (
            f"rows lie in {declared.warehouse}, are read in {declared.reader} and {leave} leave Google Cloud"
        )

    def tables(self) -> str:
        """The tables that the query names are there, may be looked at, and have a history."""
        query = self._parsed(self._wanted.sql)
        with explained(query.names()):
            schemas = {name: self._table(name) for name in query.tables() if "*" not in name.table}
        if self._terms.snapshot is not None:
            for schema in schemas.values():
                check_history(schema)
        self._schemas = schemas
        return ", ".join(f"{name} with {len(each.columns)} columns" for name, each in schemas.items())

    def schema(self) -> str:
        """A dry run of the query returns the template's columns, the label and the split column."""
        if self._schemas is None:
            raise NotCheckedError("the tables that the query names are not known")
        self._fields = list(self._dry_run(self._wanted.sql).fields)
        return self._wanted.check(arrow_schema(self._fields))

    def columns(self) -> str:
        """It returns the columns that the federation file declares."""
        if self._fields is None:
            raise NotCheckedError("the query's schema is not known")
        triples = [(field.name, field.field_type, field.mode or "") for field in self._fields]
        fields = bigquery_fields(triples, of_query=True)
        return self._wanted.check_declared(fields, arrow_schema(self._fields))

    def cost(self) -> str:
        """A dry run of what a round would run names all its tables and stays within maximum_bytes_billed."""
        if self._fields is None:
            raise NotCheckedError("the query's schema is not known")
        plan = self._dry_run(self._wanted.statement(self._terms.parameters))
        # First, as in a round: BigQuery bills for each table, those that it does not name too.
        jobs.check_referenced(plan)
        jobs.check_cost(self._terms, plan.bytes_processed)
        self._plan, limit = plan, self._terms.maximum_bytes_billed
        least = _LEAST_BILLED_A_TABLE * len(plan.referenced)
        if least > limit:
            raise RefusedError(
                f"BigQuery bills at least 10 MiB for each table of a query, {least:,} bytes here, and "
                f"maximum_bytes_billed is {limit:,}: raise it in the site's policy"
            )
        most = max(plan.bytes_processed, least)
        return f"at most {most:,} bytes would be billed, maximum_bytes_billed is {limit:,}"

    def policy_tags(self) -> str:
        """No column with a policy tag is read but those that the site allows."""
        schemas, plan = self._reached()
        query = self._parsed(self._wanted.statement(self._terms.parameters))
        allowed = self._terms.allowed_tagged_columns
        read = columns_read(query, schemas)
        check_policy_tags(read, schemas, allowed=allowed, written=query.names())
        tables = ", ".join(str(name) for name in plan.referenced)
        return (
            f"no column of {tables} with a policy tag is read but those that the site allows ({len(allowed)})"
        )

    def location(self) -> str:
        """The tables lie where the site declared."""
        schemas, _ = self._reached()
        places = {str(name): schema.location for name, schema in schemas.items()}
        check_locations(self._terms.data_residency, places)
        return f"all tables lie in {', '.join(sorted(set(places.values())))}"

    def streams(self) -> str:
        """Whether the Storage Read API may be used shows when rows are read."""
        if not has_storage(self._terms):
            return "rows come page by page, as the site's policy names no storage_endpoint"
        raise NotCheckedError(
            "the Storage Read API shows with the first rows whether it may be used "
            "(roles/bigquery.readSessionUser); without it they come page by page"
        )

    def close(self) -> None:
        """Lets go of the client."""
        if self._connection is not None:
            self._connection.client.close()  # type: ignore[no-untyped-call]

    def _reached(self) -> tuple[dict[TableName, TableSchema], jobs.DryRun]:
        """Schemas of all tables behind the query, and its dry run."""
        if self._schemas is None or self._plan is None:
            raise NotCheckedError("the tables behind the query are not known")
        plan = self._plan
        with explained(()):
            for name in plan.referenced:
                if name not in self._schemas:
                    self._schemas[name] = self._table(name)
        return self._schemas, plan

    def _parsed(self, sql: str) -> Statement:
        return parse_statement(
            sql,
            project=self._terms.project,
            default_dataset=self._terms.default_dataset,
            declared=tuple(self._terms.parameters),
        )

    def _dry_run(self, sql: str) -> jobs.DryRun:
        query = self._parsed(sql)
        pinned = query if self._terms.snapshot is None else query.as_of_snapshot()
        with explained(query.names()):
            return jobs.dry_run(self._connected(), self._terms, pinned)

    def _table(self, name: TableName) -> TableSchema:
        seconds = self._terms.deadline_s
        return read_schema(self._connected(), name, retry=retrying(seconds), timeout_s=seconds)

    def _connected(self) -> bigquery.Client:
        if self._connection is None:
            raise NotCheckedError("BigQuery was not asked: identity and residency come first")
        return self._connection.client
