"""Where a site's records are, behind one interface: BigQuery, DuckDB warehouses and Parquet files.

A source answers one SELECT in BigQuery's dialect with a stream of Arrow batches. It opens nothing for
writing, and its errors keep what a row says at the site: see `components.errors.SiteError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from components.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from components.data_processing.bigquery.terms import BigQueryTerms

KINDS = ("duckdb", "parquet", "bigquery")


class Source(Protocol):
    """A place that answers queries over one site's records."""

    name: str
    """Kind of the source, for messages and manifests."""

    def schema(self, statement: str) -> pa.Schema:
        """Names and types of the columns `statement` would return, without reading its rows."""
        ...

    def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        """All rows of `statement`, one SELECT in BigQuery's dialect, in memory that does not grow with them.

        At least one batch, which is empty where there are no rows; all have the same schema. Nothing is
        asked of the warehouse before the first is asked for, and a failure may come with any of them.

        Raises:
            BadDataError: `statement` is refused or fails.
        """
        ...

    def account(self) -> Mapping[str, str | int]:
        """What was read so far and what it cost: numbers, and names of jobs and interfaces; no row value.

        Empty where reading costs nothing.
        """
        ...

    def close(self) -> None:
        """Lets go of the warehouse; the source cannot be used afterwards."""
        ...


def open_source(kind: str, uri: str, *, terms: BigQueryTerms | None = None) -> Source:
    """The source of `kind` at `uri`, opened for reading only.

    Args:
        kind: "duckdb": `uri` is the path of a DuckDB file. "parquet": `uri` is a path or a glob of Parquet
            files, which queries see as one table `records`. "bigquery": `terms` say where it is.
        uri: A path below `crosscloud_home()`, an absolute path or a file:// URI; not used for BigQuery.
        terms: On which a site's BigQuery is read; needed for it and for nothing else.

    Raises:
        UsageError: Another kind, a file with a remote scheme, or BigQuery without terms or client.
        RefusedError: BigQuery's rows may not go where this reader is.
        SourceUnreachableError: There is no such file, it is not of this kind, or there is no identity.
    """
    if kind == "bigquery":
        if terms is None:
            raise UsageError(f"{uri} is read on a site's own terms: its policy has none for BigQuery")
        from components.data_processing.bigquery.source import open_bigquery

        return open_bigquery(terms)
    if kind == "duckdb":
        from components.data_processing.duckdb_source import open_duckdb

        return open_duckdb(uri)
    if kind == "parquet":
        from components.data_processing.parquet_source import open_parquet

        return open_parquet(uri)
    raise UsageError(f"unknown source kind {kind!r}: use {', '.join(KINDS[:-1])} or {KINDS[-1]}")
