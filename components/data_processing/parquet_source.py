"""Records in Parquet files, queried in place as one table `records`."""

from __future__ import annotations

from pathlib import Path

from components.artifacts.stores import local_path
from components.data_processing.duckdb_source import SETTINGS, DuckDBSource, one_line
from components.errors import SourceUnreachableError

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
    connection = duckdb.connect(":memory:", config=SETTINGS)
    try:
        connection.execute("SET allowed_paths = ?", [files])
        connection.read_parquet(files).create_view(TABLE)
    except duckdb.Error as error:
        connection.close()
        raise SourceUnreachableError(
            f"{path} cannot be read as Parquet: {one_line(error)}", disclosed="the warehouse cannot be opened"
        ) from None
    return DuckDBSource("parquet", connection)
