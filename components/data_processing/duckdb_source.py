"""Records in a DuckDB file, and the DuckDB session that every local source reads through.

The session can read what it was opened on and nothing else: no other file, no network, no extension that
is not built in, no variable of this process, and no setting can be changed from a query. It spills nothing
to disk: a query that needs more memory than the session has fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from components.artifacts.stores import local_path
from components.data_processing import fingerprint
from components.data_processing.query import names_in, to_duckdb
from components.errors import BadDataError, SourceUnreachableError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# DuckDB keeps what it has read until the limit is reached. A query that only passes rows on needs little; one
# that sorts or groups them gets more. So few megabytes do for millions of rows, and a large join still runs.
MEMORY_LIMIT, MOST_MEMORY = "256MiB", "1GiB"
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}
# DuckDB's vectors hold 2,048 rows; two of them with notes of 10 kB each are 40 MB.
ROWS_A_BATCH = 4096
_UNKNOWN_NAME = re.compile(
    r'Table with name "?([^"\s]+?)"? does not exist'
    r'|Referenced column "([^"]+)" not found'
    r'|does not have a column named "([^"]+)"'
)


class DuckDBSource:
    """Answers queries through DuckDB connections, one at a time, which it closes."""

    def __init__(self, name: str, connect: Callable[[str], duckdb.DuckDBPyConnection]) -> None:
        """Opens the first connection; `connect` is given the memory limit of one."""
        self.name = name
        self._connect = connect
        self._connection = self._session(MEMORY_LIMIT)

    def schema(self, statement: str) -> pa.Schema:
        """See `Source.schema`."""
        import duckdb

        translated = to_duckdb(statement)
        try:
            with self._connection.cursor() as cursor:
                return cursor.sql(translated).limit(0).to_arrow_table().schema
        except duckdb.Error as error:
            # Not chained: DuckDB's text quotes row values, and a trace may be written to a log.
            raise _failure(error, statement) from None

    def batches(self, statement: str) -> Iterator[pa.RecordBatch]:
        """See `Source.batches`; a query that runs out of memory at its begin is run again with more."""
        import pyarrow as pa

        translated = to_duckdb(statement)
        try:
            reader, first = self._begin(translated)
        except _failures() as error:
            raise _failure(error, statement) from None
        with reader:
            yield first or pa.RecordBatch.from_pylist([], schema=reader.schema)
            while True:
                try:
                    batch = _next_batch(reader)
                except _failures() as error:
                    raise _failure(error, statement) from None
                if batch is None:
                    return
                yield batch

    def account(self) -> Mapping[str, str | int]:
        """See `Source.account`; reading a file costs nothing."""
        return {}

    def close(self) -> None:
        """See `Source.close`."""
        self._connection.close()

    def _session(self, memory_limit: str) -> duckdb.DuckDBPyConnection:
        connection = self._connect(memory_limit)
        fingerprint.register(connection)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return connection

    def _begin(self, translated: str) -> tuple[pa.RecordBatchReader, pa.RecordBatch | None]:
        """What reads the answer, and its first batch."""
        try:
            return _started(self._connection, translated)
        except _failures() as error:
            if _class_name(error) != "OutOfMemoryException":
                raise
        self._connection.close()
        self._connection = self._session(MOST_MEMORY)
        return _started(self._connection, translated)


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
        return DuckDBSource(
            "duckdb",
            lambda limit: duckdb.connect(path, read_only=True, config=SETTINGS | {"memory_limit": limit}),
        )
    except duckdb.Error as error:
        raise SourceUnreachableError(
            f"{path} cannot be opened: {one_line(error)}", disclosed="the warehouse cannot be opened"
        ) from None


def one_line(error: Exception) -> str:
    """The first paragraph of a DuckDB error in one line; what follows only draws the query."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())


def _started(
    connection: duckdb.DuckDBPyConnection, translated: str
) -> tuple[pa.RecordBatchReader, pa.RecordBatch | None]:
    # An answer that is not read to its end would be in the way of the next on the same cursor.
    reader = connection.cursor().sql(translated).to_arrow_reader(ROWS_A_BATCH)
    return reader, _next_batch(reader)


def _next_batch(reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    """The next batch that holds rows; None at the end."""
    return next((batch for batch in reader if batch.num_rows), None)


def _failures() -> tuple[type[Exception], ...]:
    """What a query fails with: behind a reader DuckDB's errors arrive as Arrow's, or as Python's own."""
    import duckdb
    import pyarrow as pa

    return duckdb.Error, pa.ArrowException, OSError


def _failure(error: Exception, statement: str) -> BadDataError:
    return BadDataError(f"the query failed: {one_line(error)}", disclosed=_disclosed(error, statement))


def _disclosed(error: Exception, statement: str) -> str:
    """What others may read of `error`: its class, or a name that the query itself writes."""
    text = str(error)
    if fingerprint.LONG_KEY in text:
        return fingerprint.LONG_KEY
    unknown = _UNKNOWN_NAME.search(text)
    if unknown:
        name = next(group for group in unknown.groups() if group)
        if name.lower() in names_in(statement):
            return f"the query failed: there is no table or column {name!r}"
    return f"the query failed: {_class_name(error)}"


def _class_name(error: Exception) -> str:
    """DuckDB's class of an error, which one that came through Arrow tells by how its text begins."""
    import duckdb

    if isinstance(error, duckdb.Error):
        return type(error).__name__
    told = str(error).partition(" Error:")[0].replace(" ", "").lower()
    classes = {name.removesuffix("Exception").lower(): name for name in dir(duckdb) if "Exception" in name}
    return classes.get(told, "Error")
