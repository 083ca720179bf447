"""A BigQuery warehouse as a source: checked before it is asked, streamed, and accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from components.data_processing.bigquery import jobs, streams
from components.data_processing.bigquery.arrow_types import arrow_schema, conform, empty_batch
from components.data_processing.bigquery.columns_read import columns_read
from components.data_processing.bigquery.connection import (
    Connection,
    connect,
    has_storage,
    retrying,
    storage_client,
)
from components.data_processing.bigquery.failures import (
    OUT_OF_WINDOW,
    OUT_OF_WINDOW_DISCLOSED,
    explained,
    storage_refused,
)
from components.data_processing.bigquery.policy_tags import check_policy_tags
from components.data_processing.bigquery.residency import check_locations
from components.data_processing.bigquery.statement import Statement, parse_statement
from components.data_processing.bigquery.table_schema import (
    TableName,
    TableSchema,
    check_history,
    read_schema,
)
from components.data_processing.bigquery.terms import BigQueryTerms
from components.errors import BadDataError
from components.execution.progress import tell

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud import bigquery, bigquery_storage

WINDOW = timedelta(days=7)
CLOCKS_DIFFER = timedelta(minutes=5)
"""By so much a snapshot may be ahead of this machine's clock; it is waited for."""
ROWS_A_PAGE = 10_000


class BigQuerySource:
    """Answers queries through BigQuery on one site's terms."""

    name = "bigquery"

    def __init__(
        self,
        terms: BigQueryTerms,
        connection: Connection,
        *,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._terms = terms
        self._client = connection.client
        self._identity = connection.identity
        self._clock = clock
        self._sleep = sleep
        self._storage: bigquery_storage.BigQueryReadClient | None = None
        self._storage_usable = has_storage(terms)
        self._said_page_by_page = False
        self._account: Mapping[str, str | int] = {}

    def schema(self, statement: str) -> pa.Schema:
        """See `Source.schema`. No column is read, so that none needs to be allowed.

        Raises:
            BadDataError: `statement` is refused, or BigQuery refuses it.
            SourceUnreachableError: BigQuery cannot be reached, or denies access.
        """
        query = self._pinned(self._parsed(statement))
        with explained(query.names()):
            return arrow_schema(jobs.dry_run(self._client, self._terms, query).fields)

    def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        """See `Source.batches`. The query runs, and is paid for, when the first batch is asked for.

        Raises:
            BadDataError: `statement` is refused or fails.
            RefusedError: it costs too much, reads a tagged column, or a table that lies elsewhere.
            SourceUnreachableError: BigQuery cannot be reached, or denies access.
            DeadlineExceededError: it did not end in time.
        """
        parsed = self._parsed(statement)
        query = self._pinned(parsed)
        self._account = {}
        with explained(parsed.names()):
            # A wildcard has no schema of its own; BigQuery names the tables behind it in the dry run.
            schemas = {name: self._table(name) for name in parsed.tables() if "*" not in name.table}
            if self._terms.snapshot is not None:
                for schema in schemas.values():
                    check_history(schema)
            plan = jobs.dry_run(self._client, self._terms, query)
            self._check_reading(parsed, schemas, plan)
            jobs.check_cost(self._terms, plan.bytes_processed)
            job = jobs.run(self._client, self._terms, query)
            self._account = jobs.account(job, self._terms, api="storage" if self._storage_usable else "rest")
            yield from self._rows(job, arrow_schema(plan.fields))

    def account(self) -> Mapping[str, str | int]:
        """See `Source.account`: of the last query that ran to its end, whether or not its rows were read.

        Bytes grow with the number of rows, which a site does not publish: keep this at the site.
        """
        return self._account

    def close(self) -> None:
        """See `Source.close`."""
        if self._storage is not None:
            self._storage.transport.close()  # type: ignore[no-untyped-call]
        self._client.close()  # type: ignore[no-untyped-call]

    def _parsed(self, statement: str) -> Statement:
        return parse_statement(
            statement,
            project=self._terms.project,
            default_dataset=self._terms.default_dataset,
            declared=tuple(self._terms.parameters),
        )

    def _pinned(self, query: Statement) -> Statement:
        """`query` as of the site's snapshot, if it has one."""
        snapshot = self._terms.snapshot_utc
        if snapshot is None:
            return query
        now = self._clock()
        if now < snapshot <= now + CLOCKS_DIFFER:
            # The coordinator's clock is ahead of this one: by then the snapshot has passed here too.
            self._sleep((snapshot - now).total_seconds())
            now = snapshot
        if snapshot > now:
            text = f"the snapshot {snapshot.isoformat()} lies in the future: name a time that has passed"
            raise BadDataError(text, disclosed="the snapshot lies in the future")
        if snapshot < now - WINDOW:
            raise BadDataError(f"{snapshot.isoformat()}: {OUT_OF_WINDOW}", disclosed=OUT_OF_WINDOW_DISCLOSED)
        return query.as_of_snapshot()

    def _table(self, name: TableName) -> TableSchema:
        deadline_s = self._terms.deadline_s
        return read_schema(self._client, name, retry=retrying(deadline_s), timeout_s=deadline_s)

    def _check_reading(
        self, query: Statement, named: Mapping[TableName, TableSchema], plan: jobs.DryRun
    ) -> None:
        """Where the tables lie, and whether their tagged columns may be read."""
        jobs.check_referenced(plan)
        behind = {name: self._table(name) for name in plan.referenced if name not in named}
        schemas = {**named, **behind}
        check_locations(
            self._terms.data_residency, {str(name): schema.location for name, schema in schemas.items()}
        )
        check_policy_tags(
            columns_read(query, schemas),
            schemas,
            allowed=self._terms.allowed_tagged_columns,
            written=query.names(),
        )

    def _rows(self, job: bigquery.QueryJob, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        empty = True
        for batch in self._batches(job, schema):
            empty = False
            yield conform(batch, schema)
        if empty:
            yield empty_batch(schema)

    def _batches(self, job: bigquery.QueryJob, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Rows through the Storage Read API, or page by page where that cannot be used at all."""
        from google.api_core.exceptions import GoogleAPIError

        begun = False
        if self._storage_usable:
            try:
                for batch in self._streamed(job, schema):
                    begun = True
                    yield batch
            except GoogleAPIError as error:
                if begun or not storage_refused(error):
                    raise
                self._storage_usable = False
                self._account = jobs.account(job, self._terms, api="rest")
                self._say_page_by_page(type(error).__name__)
            else:
                return
        else:
            self._say_page_by_page("the terms name no storage_endpoint")
        deadline_s = self._terms.deadline_s
        rows = job.result(
            page_size=ROWS_A_PAGE, retry=retrying(deadline_s), timeout=deadline_s, job_retry=None
        )
        yield from rows.to_arrow_iterable()

    def _say_page_by_page(self, why: str) -> None:
        """Says once that rows come the slower way."""
        if not self._said_page_by_page:
            self._said_page_by_page = True
            tell(f"BigQuery's Storage Read API cannot be used here ({why}): rows are read page by page")

    def _streamed(self, job: bigquery.QueryJob, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        if self._storage is None:
            self._storage = storage_client(self._terms, self._identity)
        result = job.destination
        return streams.read_batches(
            self._storage,
            TableName(result.project, result.dataset_id, result.table_id),
            columns=schema.names,
            project=self._terms.project,
            deadline_s=self._terms.deadline_s,
        )


def open_bigquery(
    terms: BigQueryTerms,
    *,
    clock: Callable[[], datetime] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> BigQuerySource:
    """The warehouse that `terms` lead to; nothing is sent yet.

    Args:
        terms: the site's.
        clock: the time, with its zone; this machine's where there is none.
        sleep: waits so many seconds.

    Raises:
        RefusedError: the identity is a key, or rows may not leave Google Cloud.
        SourceUnreachableError: there is no identity.
        UsageError: Google's client is not installed.
    """
    return BigQuerySource(terms, connect(terms), clock=clock or (lambda: datetime.now(UTC)), sleep=sleep)
