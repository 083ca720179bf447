"""Records in Parquet files, queried in place as one table `records`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts.stores import local_path
from components.data_processing.duckdb_source import SETTINGS, DuckDBSource, one_line
from components.errors import SourceUnreachableError

if TYPE_CHECKING:
    import duckdb

TABLE = "records"


def open_parquet(uri: str) -> DuckDBSource:
    """The Parquet files at `uri`, a path or a glob (`**` goes into folders).

    DuckDB reads only the columns and row groups that a query needs; no file is loaded whole.

    Raises:
        UsageError: `uri` has a remote scheme.
        SourceUnreachableError: No file matches, or one of them is not Parquet.
    """
    import duckdb

    path = local_path(uri)
    pattern = str(path.relative_to(path.anchor))
    matches = [path] if path.is_file() else sorted(Path(path.anchor).glob(pattern))
    files = [str(match) for match in matches if match.is_file()]
    if not files:
        raise SourceUnreachableError(
            f"no file matches {path}: put the site's Parquet files there, or correct the source's uri",
            disclosed="the warehouse is not there",
        )
    try:
        return DuckDBSource("parquet", lambda limit: _connected(files, limit))
    except duckdb.Error as error:
        raise SourceUnreachableError(
            f"{path} cannot be read as Parquet: {one_line(error)}", disclosed="the warehouse cannot be opened"
        ) from None


def _connected(files: Sequence[str], memory_limit: str) -> duckdb.DuckDBPyConnection:
    """A session in memory that sees `files` as one table, and no other file."""
    import duckdb

    connection = duckdb.connect(":memory:", config=SETTINGS | {"memory_limit": memory_limit})
    try:
        connection.execute("SET allowed_paths = ?", [files])
        connection.read_parquet(files).create_view(TABLE)
    except duckdb.Error:
        connection.close()
        raise
    return connection
