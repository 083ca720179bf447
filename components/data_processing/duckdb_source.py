"""Records in a DuckDB file, and the DuckDB session that every local source reads through.

The session can read what it was opened on and nothing else: no other file, no network, no extension that
is not built in, no variable of this process, and no setting can be changed from a query. It spills nothing
to disk, so rows are in no place but the warehouse and what the step writes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from components.artifacts.stores import local_path
from components.data_processing import fingerprint
from components.data_processing.query import names_in, to_duckdb
from components.errors import BadDataError, SourceUnreachableError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "memory_limit": "1GiB",
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}
_UNKNOWN_NAME = re.compile(
    r'Table with name "?([^"\s]+?)"? does not exist'
    r'|Referenced column "([^"]+)" not found'
    r'|does not have a column named "([^"]+)"'
)


class DuckDBSource:
    """Answers queries through one DuckDB connection, which it closes."""

    def __init__(self, name: str, connection: duckdb.DuckDBPyConnection) -> None:
        self.name = name
        self._connection = connection
        fingerprint.register(connection)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")

    def schema(self, statement: str) -> pa.Schema:
        """See `Source.schema`."""
        return self._run(statement, rows=0).schema

    def read(self, statement: str) -> pa.Table:
        """See `Source.read`."""
        return self._run(statement, rows=None)

    def close(self) -> None:
        """See `Source.close`."""
        self._connection.close()

    def _run(self, statement: str, *, rows: int | None) -> pa.Table:
        import duckdb

        translated = to_duckdb(statement)
        try:
            relation = self._connection.sql(translated)
            return (relation if rows is None else relation.limit(rows)).to_arrow_table()
        except duckdb.Error as error:
            # Not chained: DuckDB's text quotes row values, and a trace may be written to a log.
            raise BadDataError(
                f"the query failed: {one_line(error)}", disclosed=_disclosed(error, statement)
            ) from None


def open_duckdb(uri: str) -> DuckDBSource:
    """The DuckDB file at `uri`, read-only.

    Raises:
        UsageError: `uri` has a remote scheme.
        SourceUnreachableError: There is no such file, it is not a DuckDB file, or another process holds
            it open for writing.
    """
    import duckdb

    path = local_path(uri)
    if not path.is_file():
        raise SourceUnreachableError(
            f"{path} is not there: put the site's DuckDB file there, or correct the source's uri",
            disclosed="the warehouse is not there",
        )
    try:
        return DuckDBSource("duckdb", duckdb.connect(path, read_only=True, config=SETTINGS))
    except duckdb.Error as error:
        raise SourceUnreachableError(
            f"{path} cannot be opened: {one_line(error)}", disclosed="the warehouse cannot be opened"
        ) from None


def one_line(error: Exception) -> str:
    """The first paragraph of a DuckDB error in one line; what follows only draws the query."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())


def _disclosed(error: duckdb.Error, statement: str) -> str:
    """What others may read of `error`: its class, or a name that the query itself writes."""
    text = str(error)
    if fingerprint.LONG_KEY in text:
        return fingerprint.LONG_KEY
    unknown = _UNKNOWN_NAME.search(text)
    if unknown:
        name = next(group for group in unknown.groups() if group)
        if name.lower() in names_in(statement):
            return f"the query failed: there is no table or column {name!r}"
    return f"the query failed: {type(error).__name__}"
