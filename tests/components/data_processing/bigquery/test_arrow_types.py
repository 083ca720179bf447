from __future__ import annotations

import pyarrow as pa
import pytest
from google.cloud.bigquery import SchemaField

from components.data_processing.bigquery.arrow_types import arrow_schema, conform, empty_batch
from components.errors import BadDataError


def field(name: str, kind: str, mode: str = "NULLABLE", *children: SchemaField) -> SchemaField:
    return SchemaField(name, kind, mode=mode, fields=children)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("STRING", pa.string()),
        ("JSON", pa.string()),
        ("GEOGRAPHY", pa.string()),
        ("BYTES", pa.binary()),
        ("INTEGER", pa.int64()),
        ("INT64", pa.int64()),
        ("FLOAT", pa.float64()),
        ("BOOLEAN", pa.bool_()),
        ("DATE", pa.date32()),
        ("TIME", pa.time64("us")),
        ("DATETIME", pa.timestamp("us")),
        ("TIMESTAMP", pa.timestamp("us", tz="UTC")),
        ("NUMERIC", pa.decimal128(38, 9)),
        ("BIGNUMERIC", pa.decimal256(76, 38)),
    ],
)
def test_types_are_those_that_the_storage_read_api_documents(kind: str, expected: pa.DataType) -> None:
    schema = arrow_schema([field("one", kind, "REQUIRED"), field("many", kind, "REPEATED")])
    assert schema.types == [expected, pa.list_(expected)]
    assert all(each.nullable for each in schema)


def test_records_nest() -> None:
    record = field(
        "r", "RECORD", "REPEATED", field("a", "STRING"), field("b", "RECORD", "NULLABLE", field("c", "DATE"))
    )
    inner = pa.struct([("a", pa.string()), ("b", pa.struct([("c", pa.date32())]))])
    assert arrow_schema([record]).types == [pa.list_(inner)]


def test_a_type_that_no_record_holds_is_refused() -> None:
    with pytest.raises(BadDataError, match="column 'stay' is of BigQuery's type INTERVAL: CAST it") as caught:
        arrow_schema([field("stay", "INTERVAL")])
    assert caught.value.disclosed == "a column has a type that cannot be read"


def test_batches_are_brought_to_one_schema_by_name() -> None:
    schema = arrow_schema([field("a", "INTEGER"), field("b", "STRING")])
    sent = pa.record_batch(
        {"b": pa.array(["x", None], pa.large_string()), "a": pa.array([1, None], pa.int32())}
    )
    made = conform(sent, schema)
    assert made.schema == schema
    assert made.to_pylist() == [{"a": 1, "b": "x"}, {"a": None, "b": None}]
    assert (empty_batch(schema).num_rows, empty_batch(schema).schema) == (0, schema)
