from __future__ import annotations

import datetime
import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.contract import RecordCheck, check_schema
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


def check(table: pa.Table, *cuts: int, training_rows_required: bool = True) -> None:
    """Shows the rows to a check in batches that begin at `cuts`; one is empty where two are equal."""
    check = RecordCheck(text_columns=["notes", "age"], label_column="chapter", classes=CLASSES)
    for start, stop in itertools.pairwise([0, *sorted(cuts), table.num_rows]):
        check.add(batch_of(table.slice(start, stop - start)))
    check.conclude(training_rows_required=training_rows_required)
    assert not check.broken


def batch_of(table: pa.Table) -> pa.RecordBatch:
    chunks = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(chunks, schema=table.schema)


def refusal(table: pa.Table, *cuts: int) -> BadDataError:
    with pytest.raises(BadDataError) as caught:
        check(table, *cuts)
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


@pytest.mark.parametrize("kept", [{}, {"is_test": [True, True, True]}])
def test_where_training_rows_are_not_required_none_is_no_fault(kept: dict[str, object]) -> None:
    check(records(**kept), training_rows_required=False)
    check(records(**kept).slice(0, 0), training_rows_required=False)
    for fault in ({"notes": ["a", None, "c"]}, {"chapter": ["heart", "skin", "lung"]}):
        with pytest.raises(BadDataError):
            check(records(**(kept | fault)), training_rows_required=False)


Batches = st.lists(st.integers(0, 12), max_size=4)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", None]),
            st.sampled_from([*CLASSES, "skin", "Heart", "", None]),
            st.sampled_from([True, True, False, None]),
        ),
        max_size=12,
    ),
    Batches,
)
def test_how_rows_come_in_batches_changes_no_verdict_and_no_message(
    rows: list[tuple[str | None, str | None, bool | None]], cuts: list[int]
) -> None:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    kinds = (pa.string(), pa.string(), pa.bool_())
    notes, chapter, is_test = (pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True))
    age = pa.array([1] * len(rows), pa.int64())
    table = records(notes=notes, age=age, chapter=chapter, is_test=is_test)
    told = []
    for parts in ([], [min(cut, len(rows)) for cut in cuts]):
        try:
            check(table, *parts)
            told.append(("", ""))
        except BadDataError as error:
            told.append((str(error), error.disclosed))
    assert told[0] == told[1]
    # What it is, found in the rows one by one.
    nulls = [sum(value is None for value in column) for column in columns]
    unknown = [row[1] for row in rows if row[1] is not None and row[1] not in CLASSES]
    first = min(unknown, default="")
    for found, text in (
        (not rows, "the query returned no rows"),
        (nulls[0], f"column 'notes' is NULL in {nulls[0]} of {len(rows)} rows"),
        (nulls[1], f"column 'chapter' is NULL in {nulls[1]} of {len(rows)} rows"),
        (nulls[2], f"the split column is NULL in {nulls[2]} of {len(rows)} rows"),
        (unknown, f"label {first!r} in column 'chapter' ({unknown.count(first)} rows"),
        (all(row[2] for row in rows), f"all {len(rows)} rows are test rows"),
    ):
        if found:
            assert told[0][0].startswith(text)
            return
    assert told[0] == ("", "")


def test_broken_is_known_before_the_end() -> None:
    check = RecordCheck(text_columns=["notes", "age"], label_column="chapter", classes=CLASSES)
    known = []
    # Training rows may come after test rows; nothing that comes mends a label.
    for table in (records(is_test=[True, True, True]), records(chapter=["heart", "skin", "lung"]), records()):
        check.add(batch_of(table))
        known.append(check.broken)
    assert known == [False, True, True]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (1000, "and 999 other"),
        (1001, "and 1000 other"),
        (1002, "and more than 1000 other"),
        (5000, "and more than 1000 other"),
    ],
)
def test_labels_beyond_a_thousand_are_not_counted(labels: int, told: str) -> None:
    names = [f"{number:05d}" for number in range(labels)]
    table = records(notes=names, age=[1] * labels, chapter=names[::-1], is_test=[False] * labels)
    text = str(refusal(table, *range(0, labels, 500)))
    assert f"label '00000' in column 'chapter' (1 rows, {told}" in text
    assert "other labels)" in text
