"""From a source to the rows a site trains and is measured on: checked, bare and in one order.

The rows of a site have one canonical form whatever the warehouse: the text columns as strings, `label` and
`is_test`, sorted by all columns. Equal records give equal bytes to the digest, so what is cached by it
(features above all) is found again, whatever order a warehouse returns its rows in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.data_processing.contract import check_records, check_schema
from components.data_processing.query import IS_TEST, LABEL, extraction_statement
from components.errors import IntegrityError

if TYPE_CHECKING:
    import pyarrow as pa

    from components.data_processing.sources import Source

_ROWS_AT_A_TIME = 65_536


def extract(
    source: Source,
    sql: str,
    *,
    template_columns: Sequence[str],
    label_column: str,
    split_column: str,
    test_fraction: float,
    classes: Sequence[str],
) -> pa.Table:
    """Reads what the task needs of the records that `sql` selects.

    Args:
        source: Where the records are.
        sql: The site's query, one SELECT in BigQuery's dialect.
        template_columns: Text columns; see `template.columns_of`.
        label_column: Column that holds the class.
        split_column: Column whose values the split never parts; it does not leave the warehouse.
        test_fraction: Share of the split values that are test rows, a multiple of 0.001.
        classes: Every label must be one of these.

    Returns:
        Columns `template_columns` (string), `label` (string) and `is_test` (bool), sorted by all of them.

    Raises:
        BadDataError: The query is refused or fails, or its rows break the contract.
        UsageError: `query.check_columns` finds fault with the columns or the split.
    """
    statement = extraction_statement(
        sql,
        columns=template_columns,
        label_column=label_column,
        split_column=split_column,
        test_fraction=test_fraction,
    )
    check_schema(
        source.schema(sql),
        text_columns=template_columns,
        label_column=label_column,
        split_column=split_column,
    )
    table = source.read(statement)
    check_records(table, text_columns=template_columns, label_column=label_column, classes=classes)
    return _canonical(table, template_columns, label_column)


def rows_digest(table: pa.Table) -> str:
    """SHA-256 of a canonical table's contents as 64 hexadecimal digits.

    Two tables have the same digest if and only if they have the same columns and the same rows, both in the
    same order; chunks and Parquet's encodings do not count. Every part of variable size comes after its
    length, so that no two tables are hashed as the same bytes.

    Raises:
        ValueError: A column holds NULL, or neither strings nor booleans.
    """
    import pyarrow as pa

    state = hashlib.sha256(b"crosscloud rows 1\0")
    state.update(_number(table.num_columns) + _number(table.num_rows))
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            raise ValueError(f"column {name!r} holds NULL: a canonical table has none")
        state.update(_number(len(name.encode())) + name.encode())
        if pa.types.is_string(column.type):
            state.update(b"s")
            _digest_strings(state, column)
        elif pa.types.is_boolean(column.type):
            state.update(b"b" + bytes(column.to_pylist()))
        else:
            raise ValueError(
                f"column {name!r} is of type {column.type}: a canonical table has string and bool"
            )
    return state.hexdigest()


def to_parquet(table: pa.Table) -> bytes:
    """`table` as one Parquet file (zstd)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def from_parquet(content: bytes) -> pa.Table:
    """The table that `to_parquet` wrote.

    Raises:
        IntegrityError: `content` is not a whole Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{len(content)} bytes of rows are not a Parquet file: ingest again") from error


def _canonical(table: pa.Table, columns: Sequence[str], label_column: str) -> pa.Table:
    import pyarrow as pa

    texts = {name: _strings(table.column(name)) for name in columns}
    rows = pa.table(
        {
            **texts,
            LABEL: _strings(table.column(label_column)),
            IS_TEST: table.column(IS_TEST).cast(pa.bool_()),
        }
    )
    return rows.sort_by([(name, "ascending") for name in rows.column_names]).combine_chunks()


def _strings(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    return column.cast(pa.string())


def _digest_strings(state: hashlib._Hash, column: pa.ChunkedArray) -> None:
    import pyarrow.compute as pc

    lengths = pc.binary_length(column).to_numpy()
    state.update(lengths.astype("<u8").tobytes())
    for start in range(0, len(column), _ROWS_AT_A_TIME):
        state.update("".join(column.slice(start, _ROWS_AT_A_TIME).to_pylist()).encode())


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")
