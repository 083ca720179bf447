"""BigQuery's types as Arrow's, the same for both of BigQuery's ways to hand rows over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from components.errors import BadDataError

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud.bigquery import SchemaField


def arrow_schema(fields: Sequence[SchemaField]) -> pa.Schema:
    """Names and types of the columns `fields`, every one of which may be NULL.

    Raises:
        BadDataError: a column has a type that no record can hold here.
    """
    import pyarrow as pa

    return pa.schema([pa.field(field.name, _type_of(field)) for field in fields])


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`batch` with the columns, order and types of `schema`; columns are found by name."""
    import pyarrow as pa

    arrays = [batch.column(field.name).cast(field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """No row, for a result that has none."""
    import pyarrow as pa

    arrays = [pa.array([], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _type_of(field: SchemaField) -> pa.DataType:
    import pyarrow as pa

    if field.mode == "REPEATED":
        return pa.list_(_scalar(field))
    return _scalar(field)


def _scalar(field: SchemaField) -> pa.DataType:
    import pyarrow as pa

    kind = field.field_type.upper()
    if kind in {"RECORD", "STRUCT"}:
        return pa.struct([pa.field(child.name, _type_of(child)) for child in field.fields])
    types: dict[str, Callable[[], pa.DataType]] = {
        "STRING": pa.string,
        "JSON": pa.string,
        "GEOGRAPHY": pa.string,
        "BYTES": pa.binary,
        "INTEGER": pa.int64,
        "INT64": pa.int64,
        "FLOAT": pa.float64,
        "FLOAT64": pa.float64,
        "BOOLEAN": pa.bool_,
        "BOOL": pa.bool_,
        "DATE": pa.date32,
        "TIME": lambda: pa.time64("us"),
        "DATETIME": lambda: pa.timestamp("us"),
        "TIMESTAMP": lambda: pa.timestamp("us", tz="UTC"),
        "NUMERIC": lambda: pa.decimal128(38, 9),
        "BIGNUMERIC": lambda: pa.decimal256(76, 38),
    }
    if kind not in types:
        # The type comes from the warehouse, the name from the query's own result.
        raise BadDataError(
            f"column {field.name!r} is of BigQuery's type {kind}: CAST it in the site's sql",
            disclosed="a column has a type that cannot be read",
        )
    return types[kind]()
