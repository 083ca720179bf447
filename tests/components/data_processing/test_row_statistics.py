"""Counts are those of an independent count, and the same however the rows arrive."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.declared_columns import TableField
from components.data_processing.row_statistics import RowCounter, RowStatistics, read_statistics
from components.errors import BadDataError, IntegrityError

CLASSES = ("heart", "lung", "skin")
FIELDS = [
    TableField("Notes", "STRING", "NULLABLE"),
    TableField("age", "INT64", ""),
    TableField("id", "STRING", ""),
]
SECRET = "Ada Lovelace"
Row = tuple[str | None, int | None, str | None, bool]


def batch_of(rows: list[Row], *, dictionary: bool = False) -> pa.RecordBatch:
    notes, ages, labels, tests = ([row[at] for row in rows] for at in range(4))
    label = pa.array(labels, pa.string())
    return pa.record_batch(
        {
            "notes": pa.array(notes, pa.string()),
            "age": pa.array(ages, pa.int64()),
            "chapter": label.dictionary_encode() if dictionary else label,
            "is_test": pa.array(tests, pa.bool_()),
        }
    )


def counter() -> RowCounter:
    return RowCounter(FIELDS, classes=CLASSES, label_column="chapter", counted=["notes", "age"])


def counted(*batches: pa.RecordBatch | pa.Table) -> RowStatistics:
    counting = counter()
    for each in batches:
        counting.add(each)
    return counting.statistics()


ROWS: list[Row] = [
    (SECRET, 61, "heart", False),
    (None, 44, "lung", True),
    ("cough", None, "lung", False),
    (None, 9, "Lung", False),
    ("rash", 30, None, True),
]
STATISTICS = RowStatistics(
    columns={"Notes": "STRING", "age": "INT64", "id": "STRING"},
    training_rows=3,
    test_rows=2,
    rows_by_class={"heart": 1, "lung": 2, "skin": 0},
    unlisted_rows=2,
    null_counts={"notes": 2, "age": 1},
)


def test_counts_of_five_rows() -> None:
    statistics = counted(batch_of(ROWS))
    assert statistics == STATISTICS
    assert statistics.rows == 5
    assert statistics.null_rate("notes") == Fraction(2, 5)


def test_no_rows() -> None:
    statistics = counted(batch_of([]))
    assert statistics == counted()
    assert (statistics.rows, float(statistics.null_rate("age"))) == (0, 0.0)
    assert statistics.rows_by_class == dict.fromkeys(CLASSES, 0)


def test_the_document_is_canonical_and_holds_no_value_of_a_row() -> None:
    document = counted(batch_of(ROWS)).to_json()
    assert document == (
        b'{"columns":{"Notes":"STRING","age":"INT64","id":"STRING"},"format":1,"null_counts":{"age":1,"notes":2},'
        b'"rows_by_class":{"heart":1,"lung":2,"skin":0},"test_rows":2,"training_rows":3,"unlisted_rows":2}'
    )
    assert read_statistics(document) == STATISTICS


def test_what_is_kept_does_not_grow_with_rows_or_with_labels_nobody_agreed_on() -> None:
    many: list[Row] = [(f"{SECRET} {number}", number, f"label {number}", False) for number in range(1000)]
    few, lots = counted(batch_of(many[:100])).to_json(), counted(batch_of(many)).to_json()
    assert len(lots) == len(few) + len("1000") * 2 - len("100") * 2
    assert json.loads(lots)["unlisted_rows"] == 1000
    assert SECRET.encode() not in lots
    assert b"label 7" not in lots


def test_a_batch_without_a_column_or_with_null_in_is_test() -> None:
    with pytest.raises(BadDataError, match="column 'age' is missing"):
        counted(batch_of(ROWS).drop_columns(["age"]))
    broken = batch_of(ROWS).set_column(3, "is_test", pa.array([None, True, True, True, True]))
    with pytest.raises(ValueError, match="is_test is NULL in 1 rows: check the contract first"):
        counted(broken)


TABLES = st.lists(
    st.tuples(
        st.one_of(st.none(), st.text(max_size=3)),
        st.one_of(st.none(), st.integers(0, 99)),
        st.one_of(st.none(), st.sampled_from([*CLASSES, "Lung", ""])),
        st.booleans(),
    ),
    max_size=20,
)


@given(TABLES, st.data())
def test_batches_in_any_split_and_order_give_the_same_document(rows: list[Row], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    parts = [shuffled[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    batches = [batch_of(part, dictionary=data.draw(st.booleans())) for part in parts]
    whole = counted(pa.table(batch_of(rows)))
    assert counted(*batches).to_json() == whole.to_json()
    assert read_statistics(whole.to_json()) == whole


@pytest.fixture(scope="module")
def warehouse() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@given(rows=TABLES)
def test_counts_are_those_that_sql_gives(warehouse: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    warehouse.register("records", pa.table(batch_of(rows)))
    (figures,) = warehouse.sql(
        "SELECT count(*) FILTER (is_test), count(*) FILTER (NOT is_test), count(*) FILTER (notes IS NULL), "
        "count(*) FILTER (age IS NULL), count(*) FILTER (chapter = 'heart'), count(*) FILTER (chapter = "
        "'lung'), count(*) FILTER (chapter = 'skin'), "
        "count(*) FILTER (chapter IS NULL OR chapter NOT IN ('heart', 'lung', 'skin')) FROM records"
    ).fetchall()
    statistics = counted(batch_of(rows))
    assert figures == (
        statistics.test_rows,
        statistics.training_rows,
        statistics.null_counts["notes"],
        statistics.null_counts["age"],
        *(statistics.rows_by_class[name] for name in CLASSES),
        statistics.unlisted_rows,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"training_rows": 4},
        {"training_rows": -1, "test_rows": 6},
        {"training_rows": True},
        {"test_rows": 2.0},
        {"rows_by_class": {"heart": 2, "lung": 2, "skin": 0}},
        {"rows_by_class": [1, 2, 0]},
        {"null_counts": {"notes": 6}},
        {"null_counts": {"notes": "2"}},
        {"columns": {"age": 1}},
        {"columns": None},
    ],
)
def test_a_document_that_does_not_hold_together_is_refused(changes: dict[str, Any]) -> None:
    body = json.loads(STATISTICS.to_json()) | changes
    document = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(IntegrityError, match="remembered statistics cannot be read") as caught:
        read_statistics(document)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"\xff", b"{}", b"[" * 100_000, STATISTICS.to_json() + b" "]
)
def test_what_is_no_such_document_is_refused(document: bytes) -> None:
    with pytest.raises(IntegrityError, match="restore the site's store"):
        read_statistics(document)


def test_another_key_is_refused() -> None:
    body = json.loads(STATISTICS.to_json()) | {"rows": 5}
    with pytest.raises(IntegrityError, match="not in this form"):
        read_statistics(json.dumps(body).encode())


def test_statistics_of_other_rows_have_another_document() -> None:
    assert replace(STATISTICS, test_rows=1, training_rows=4).to_json() != STATISTICS.to_json()
