"""Declared columns as texts, the same from every warehouse, and without sensitive values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.declared_columns import DeclaredColumn
from components.data_processing.record_ingestion.record_texts import RecordTexts, canonical_schema
from components.errors import BadDataError

KINDS = ("iban", "card", "email", "ip", "ssn", "phone")
CONTEXT = pa.struct([("ward", pa.string()), ("codes", pa.list_(pa.string())), ("age", pa.float64())])


def batch(**columns: Any) -> pa.RecordBatch:
    rows = len(next(iter(columns.values())))
    arrays = {name: each if isinstance(each, pa.Array) else pa.array(each) for name, each in columns.items()}
    arrays |= {"organ": pa.array(["lung"] * rows), "is_test": pa.array([False] * rows)}
    return pa.RecordBatch.from_pydict(arrays)


def texts(records: pa.RecordBatch, *declared: DeclaredColumn, kinds: Sequence[str] = ()) -> list[Any]:
    """Canonical rows of one batch as tuples of their text columns."""
    names = [name for name in records.schema.names if name not in {"organ", "is_test"}]
    made = RecordTexts(names, label_column="organ", declared=declared, kinds=kinds)
    rows = made.canonical(made.readable(records))
    assert rows.schema == canonical_schema(names)
    assert set(rows.column("label").to_pylist()) <= {"lung"}
    return list(zip(*(rows.column(name).to_pylist() for name in names), strict=True))


def test_a_struct_becomes_a_sentence_of_its_parts() -> None:
    value = {"ward": "B2", "codes": ["I10", "E11"], "age": 61.0}
    records = batch(context=pa.array([value, {"ward": "", "codes": [], "age": None}], CONTEXT))
    said = [("age: 61; codes: I10, E11; ward: B2",), ("",)]
    assert texts(records, DeclaredColumn(name="context", type="STRUCT")) == said


def test_an_array_becomes_its_elements() -> None:
    records = batch(codes=pa.array([["I10", None, "E11"], []], pa.list_(pa.string())))
    assert texts(records, DeclaredColumn(name="codes", type="ARRAY")) == [("I10, E11",), ("",)]


@pytest.mark.parametrize("kind", [pa.string(), pa.json_()])
def test_json_is_a_sentence_where_it_is_declared_and_itself_where_not(kind: pa.DataType) -> None:
    """DuckDB and BigQuery hand it over as different types of text."""
    document = json.dumps({"ward": "B2", "age": 61.0})
    column = pa.array([document], pa.string())
    records = batch(context=column if kind == pa.string() else pa.ExtensionArray.from_storage(kind, column))
    assert texts(records, DeclaredColumn(name="context", type="JSON")) == [("age: 61; ward: B2",)]
    assert texts(records) == [(document,)]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([Decimal("61.500000000"), Decimal("61.000000000")], pa.decimal128(38, 9)),
        pa.array([Decimal("61.50"), Decimal("61.00")], pa.decimal128(6, 2)),
    ],
)
def test_a_declared_number_has_one_text_whatever_its_type_adds(column: pa.Array) -> None:
    said = [("61.5",), ("61",)]
    assert texts(batch(dose=column), DeclaredColumn(name="dose", type="NUMERIC")) == said
    floats = batch(dose=pa.array([61.5, 61.0]))
    assert texts(floats, DeclaredColumn(name="dose", type="FLOAT64")) == said


@pytest.mark.parametrize(
    ("kind", "column", "said"),
    [
        ("STRING", pa.array(["x", None]), "x"),
        ("INT64", pa.array([7, None]), "7"),
        ("NUMERIC", pa.array([Decimal("1.50"), None]), "1.5"),
        ("STRUCT", pa.array([{"a": 1}, None]), "a: 1"),
        ("JSON", pa.array(["[1]", None]), "1"),
    ],
)
def test_null_is_an_empty_text_where_it_is_declared(kind: str, column: pa.Array, said: str) -> None:
    declared = DeclaredColumn(name="VALUE", type=kind)
    assert texts(batch(value=column), declared) == [(said,), ("",)]
    strict = DeclaredColumn(name="value", type=kind, nullable=False)
    made = RecordTexts(["value"], label_column="organ", declared=[strict])
    assert made.readable(batch(value=column)).column("value").null_count == 1, "the contract will refuse it"


def test_a_column_that_is_not_declared_keeps_its_nulls() -> None:
    records = batch(value=pa.array(["x", None]))
    made = RecordTexts(["value"], label_column="organ")
    assert made.readable(records) == records


def test_sensitive_values_hide_neither_in_a_part_nor_in_a_number() -> None:
    records = batch(
        note=["call 4111 1111 1111 1111"],
        context=pa.array([{"mail": ["x@clinic.org", "none"]}]),
        account=pa.array([4111111111111111], pa.int64()),
    )
    declared = DeclaredColumn(name="context", type="STRUCT")
    assert texts(records, declared, kinds=KINDS) == [("call <CARD>", "mail: <EMAIL>, none", "<CARD>")]
    assert texts(records, declared, kinds=("email",)) == [
        ("call 4111 1111 1111 1111", "mail: <EMAIL>, none", "4111111111111111")
    ]


def test_what_was_masked_is_counted_over_all_batches() -> None:
    made = RecordTexts(["note"], label_column="organ", kinds=("card", "email"))
    assert made.masked == {"card": 0, "email": 0}
    for _ in range(3):
        made.canonical(batch(note=["a@b.org and c@d.org", "4111 1111 1111 1111"]))
    assert made.masked == {"card": 3, "email": 6}
    unmasked = RecordTexts(["note"], label_column="organ")
    unmasked.canonical(batch(note=["a@b.org"]))
    assert unmasked.masked == {}


def test_the_label_is_not_masked() -> None:
    records = batch(note=["x"])
    records = records.set_column(1, "organ", pa.array(["a@b.org"]))
    made = RecordTexts(["note"], label_column="organ", kinds=KINDS)
    assert made.canonical(records).column("label").to_pylist() == ["a@b.org"]


def test_a_type_without_a_text_is_told_before_rows_are_read() -> None:
    made = RecordTexts(
        ["value"], label_column="organ", declared=[DeclaredColumn(name="value", type="STRUCT")]
    )
    with pytest.raises(BadDataError) as caught:
        made.check(pa.schema([("VALUE", pa.struct([("scan", pa.binary())]))]))
    assert caught.value.disclosed == "no text can be made of the type of column 'value'"
    assert made.plain_columns == ()


@given(st.lists(st.text(max_size=8) | st.none(), min_size=1, max_size=20), st.data())
def test_how_rows_are_parted_makes_no_difference(values: list[str | None], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(values)))
    declared = DeclaredColumn(name="note", type="STRING")
    whole = batch(note=pa.array(values, pa.string()))
    parts = [whole.slice(0, at), whole.slice(at)]
    assert [row for part in parts for row in texts(part, declared)] == texts(whole, declared)
    assert texts(whole, declared) == [(value or "",) for value in values]
