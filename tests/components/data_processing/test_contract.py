from __future__ import annotations

import datetime

import pyarrow as pa
import pytest

from components.data_processing.contract import check_records, check_schema
from components.errors import BadDataError

CLASSES = ("heart", "lung")


def records(**changes: object) -> pa.Table:
    columns: dict[str, object] = {
        "notes": ["chest pain", "cough", "wheeze"],
        "age": [61, 44, 9],
        "chapter": ["heart", "lung", "lung"],
        "is_test": [False, True, False],
    }
    return pa.table({name: values for name, values in (columns | changes).items() if values is not None})


def check(table: pa.Table) -> None:
    check_records(table, text_columns=["notes", "age"], label_column="chapter", classes=CLASSES)


def refusal(table: pa.Table) -> BadDataError:
    with pytest.raises(BadDataError) as caught:
        check(table)
    assert "\n" not in str(caught.value) + caught.value.disclosed
    return caught.value


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"is_test": [False, False, False]},
        {"chapter": pa.array(["heart", "lung", "lung"]).dictionary_encode()},
        {"notes": pa.array(["a", "b", "c"], pa.large_string())},
        {"notes": pa.array(["{}", "1", '"x"'], pa.json_())},
        {"age": pa.array([1.5, 2.0, 0.0])},
        {"age": pa.array([1, 2, 3]).cast(pa.decimal128(22, 2))},
        {"unused": [None, None, None]},
    ],
)
def test_records_that_keep_the_contract_pass(changes: dict[str, object]) -> None:
    check(records(**changes))


def test_no_rows() -> None:
    assert refusal(records().slice(0, 0)).disclosed == "the query returned no rows"


@pytest.mark.parametrize("name", ["notes", "chapter"])
def test_missing_column_is_named(name: str) -> None:
    error = refusal(records(**{name: None}))
    assert error.disclosed == f"the query returns no column '{name}'"
    assert "it returns" in str(error)


def test_every_missing_column_is_named_at_once() -> None:
    with pytest.raises(BadDataError, match="no column 'a', 'c'"):
        check_schema(
            pa.schema({"B": pa.string()}), text_columns=["a", "b"], label_column="b", split_column="c"
        )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("notes", [b"a", b"b", b"c"]),
        ("notes", [["a"], ["b"], ["c"]]),
        ("age", [True, False, True]),
        ("chapter", [1, 2, 3]),
        ("chapter", pa.array([1, 2, 3]).dictionary_encode()),
    ],
)
def test_wrong_type_names_the_column_and_the_cast(name: str, values: object) -> None:
    error = refusal(records(**{name: values}))
    assert error.disclosed == f"column '{name}' has the wrong type"
    assert "CAST it in the site's sql" in str(error)


@pytest.mark.parametrize(
    ("kind", "accepted"),
    [
        (pa.string(), True),
        (pa.int32(), True),
        (pa.date32(), True),
        (pa.float64(), False),
        (pa.timestamp("us"), False),
        (pa.bool_(), False),
        (pa.decimal128(9, 2), False),
    ],
)
def test_split_column_has_a_type_that_every_engine_writes_alike(kind: pa.DataType, accepted: bool) -> None:
    schema = pa.schema({"a": pa.string(), "b": pa.string(), "key": kind})
    if accepted:
        check_schema(schema, text_columns=["a"], label_column="b", split_column="key")
        return
    with pytest.raises(BadDataError, match="split column must hold strings, integers or dates"):
        check_schema(schema, text_columns=["a"], label_column="b", split_column="key")


@pytest.mark.parametrize(
    ("name", "values", "disclosed"),
    [
        ("notes", ["a", None, "c"], "column 'notes' is NULL in some rows"),
        ("age", [1, None, 3], "column 'age' is NULL in some rows"),
        ("chapter", ["heart", None, "lung"], "column 'chapter' is NULL in some rows"),
        ("is_test", [False, None, False], "the split column is NULL in some rows"),
    ],
)
def test_null_is_counted_for_the_site_and_only_named_for_others(
    name: str, values: list[object], disclosed: str
) -> None:
    error = refusal(records(**{name: values}))
    assert error.disclosed == disclosed
    assert "NULL in 1 of 3 rows" in str(error)


def test_only_test_rows() -> None:
    error = refusal(records(is_test=[True, True, True]))
    assert error.disclosed == "there are no training rows"


@pytest.mark.parametrize(
    "label", ["skin", "Heart", "heart ", "", "x\ny\x1b[31m", "'; DROP TABLE t; --", "z" * 9999]
)
def test_a_label_outside_stays_at_the_site_and_on_one_line(label: str) -> None:
    error = refusal(records(chapter=["heart", label, label]))
    assert error.disclosed == "a label is not in task.classes"
    assert repr(label[:80])[1:-1] in str(error)
    assert "2 rows" in str(error)
    assert "\x1b" not in str(error)
    assert len(str(error)) < 400


def test_several_labels_outside_are_counted() -> None:
    assert "(1 rows, and 1 other labels)" in str(refusal(records(chapter=["a", "lung", "b"])))


def test_nothing_but_names_is_disclosed_even_of_dates() -> None:
    born = [datetime.date(1815, 12, 10)] * 3
    assert refusal(records(age=born)).disclosed == "column 'age' has the wrong type"
