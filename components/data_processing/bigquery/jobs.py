"""Query jobs: asked first what they would cost, limited on both sides, and accounted for."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.data_processing.bigquery.connection import retrying
from components.data_processing.bigquery.statement import Statement
from components.data_processing.bigquery.table_schema import TableName
from components.data_processing.bigquery.terms import SNAPSHOT, BigQueryTerms
from components.errors import RefusedError

if TYPE_CHECKING:
    from google.cloud import bigquery

_CANCEL_S = 5.0
_REFERENCED_AT_MOST = 50


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What BigQuery says of a query that it has not run.

    Attributes:
        fields: the columns that it would return.
        bytes_processed: what it would read.
        referenced: tables that it would read, those behind views included; BigQuery names 50 at most.
    """

    fields: Sequence[bigquery.SchemaField]
    bytes_processed: int
    referenced: tuple[TableName, ...]


def dry_run(client: bigquery.Client, terms: BigQueryTerms, statement: Statement) -> DryRun:
    """Asks what `statement` would return and read; no row is read and nothing is billed.

    Raises:
        google.api_core.exceptions.GoogleAPIError: the query is refused, or the service cannot be reached.
    """
    config = _config(terms, statement)
    config.dry_run = True
    config.use_query_cache = False
    job = client.query(
        statement.sql,
        job_config=config,
        retry=retrying(terms.deadline_s),
        timeout=terms.deadline_s,
        job_retry=None,
    )
    return DryRun(
        fields=job.schema or [],
        bytes_processed=job.total_bytes_processed or 0,
        referenced=tuple(
            TableName(table.project, table.dataset_id, table.table_id) for table in job.referenced_tables
        ),
    )


def check_referenced(plan: DryRun) -> None:
    """Refuses a query over more tables than BigQuery names.

    Raises:
        RefusedError: it names as many as it ever does, so that others may be read too.
    """
    if len(plan.referenced) >= _REFERENCED_AT_MOST:
        raise RefusedError(
            f"the query reads {_REFERENCED_AT_MOST} tables or more, and BigQuery names no more of them: "
            "their policy tags and locations cannot be checked; read fewer at once",
            disclosed="the query reads too many tables to be checked",
        )


def check_cost(terms: BigQueryTerms, bytes_processed: int) -> None:
    """Refuses a query that would read more than the site pays for.

    Raises:
        RefusedError: it would.
    """
    if bytes_processed > terms.maximum_bytes_billed:
        raise RefusedError(
            f"the query would read {bytes_processed:,} bytes, and maximum_bytes_billed is "
            f"{terms.maximum_bytes_billed:,}: raise it in the site's terms, or read fewer columns or "
            "partitions",
            disclosed="the query would be billed more than the site allows",
        )


def run(client: bigquery.Client, terms: BigQueryTerms, statement: Statement) -> bigquery.QueryJob:
    """Runs `statement` to its end; a job that fails through a fault of the service is run again.

    Raises:
        google.api_core.exceptions.GoogleAPIError: the query fails, or the service cannot be reached.
        concurrent.futures.TimeoutError: it did not end within the deadline; the job is cancelled.
    """
    config = _config(terms, statement)
    config.maximum_bytes_billed = terms.maximum_bytes_billed

    def once() -> bigquery.QueryJob:
        job = client.query(
            statement.sql,
            job_config=config,
            retry=retrying(terms.deadline_s),
            timeout=terms.deadline_s,
            job_retry=None,
        )
        try:
            job.result(retry=retrying(terms.deadline_s), timeout=terms.deadline_s, job_retry=None)
        except concurrent.futures.TimeoutError:
            with contextlib.suppress(Exception):
                job.cancel(retry=None, timeout=_CANCEL_S)
            raise
        return job

    return retrying(terms.deadline_s)(once)()


def account(job: bigquery.QueryJob, terms: BigQueryTerms, *, api: str) -> Mapping[str, str | int]:
    """What a finished job read and cost.

    Args:
        job: the job.
        terms: on which it ran.
        api: `storage` or `rest`, by which its rows were read.
    """
    snapshot = terms.snapshot_utc
    return {
        "job_id": job.job_id,
        "location": job.location or terms.location,
        "bytes_processed": job.total_bytes_processed or 0,
        "bytes_billed": job.total_bytes_billed or 0,
        "slot_milliseconds": job.slot_millis or 0,
        "snapshot": "" if snapshot is None else snapshot.isoformat(),
        "api": api,
    }


def _config(terms: BigQueryTerms, statement: Statement) -> bigquery.QueryJobConfig:
    from google.cloud import bigquery

    parameters = [
        parameter.query_parameter(name)
        for name, parameter in terms.parameters.items()
        if name.lower() in statement.parameters
    ]
    if SNAPSHOT in statement.parameters:
        parameters.append(bigquery.ScalarQueryParameter(SNAPSHOT, "TIMESTAMP", terms.snapshot_utc))
    config = bigquery.QueryJobConfig(
        use_legacy_sql=False,
        labels=terms.job_labels(),
        query_parameters=parameters,
        job_timeout_ms=int(terms.deadline_s * 1000),
    )
    if terms.default_dataset:
        project, _, dataset = terms.default_dataset.rpartition(".")
        config.default_dataset = bigquery.DatasetReference(project or terms.project, dataset)
    return config
