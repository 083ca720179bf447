"""Where a site's records are, behind one interface: DuckDB warehouses and Parquet files.

A source answers one SELECT in BigQuery's dialect with an Arrow table. It opens nothing for writing, and
its errors keep what a row says at the site: see `components.errors.SiteError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from components.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = ("duckdb", "parquet")


class Source(Protocol):
    """A place that answers queries over one site's records."""

    name: str
    """Kind of the source, for messages and manifests."""

    def schema(self, statement: str) -> pa.Schema:
        """Names and types of the columns `statement` would return, without reading its rows."""
        ...

    def read(self, statement: str) -> pa.Table:
        """All rows of `statement`, one SELECT in BigQuery's dialect.

        Raises:
            BadDataError: `statement` is refused or fails.
        """
        ...

    def close(self) -> None:
        """Lets go of the warehouse; the source cannot be used afterwards."""
        ...


def open_source(kind: str, uri: str) -> Source:
    """The source of `kind` at `uri`, opened for reading only.

    Args:
        kind: "duckdb": `uri` is the path of a DuckDB file. "parquet": `uri` is a path or a glob of Parquet
            files, which queries see as one table `records`.
        uri: A path below `crosscloud_home()`, an absolute path or a file:// URI.

    Raises:
        UsageError: Another kind, or a `uri` with a remote scheme.
        SourceUnreachableError: There is no such file, or it is not of this kind.
    """
    if kind == "duckdb":
        from components.data_processing.duckdb_source import open_duckdb

        return open_duckdb(uri)
    if kind == "parquet":
        from components.data_processing.parquet_source import open_parquet

        return open_parquet(uri)
    raise UsageError(f"unknown source kind {kind!r}: use {' or '.join(KINDS)}")
