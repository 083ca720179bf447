"""One declaration binds every warehouse: schemas are told in BigQuery's words, rows counted as they come."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.declared_columns import (
    TYPES,
    ColumnCheck,
    DeclaredColumn,
    TableField,
    arrow_fields,
    arrow_type,
    bad_data,
    bigquery_fields,
    check_declarations,
    check_declared,
    column_of,
)
from components.errors import BadDataError

SECRET = "Ada Lovelace"
WARDS = ("A1", "B2")
DECLARED = (
    DeclaredColumn(name="age", type="INT64", nullable=False),
    DeclaredColumn(name="ward", type="STRING", allowed_values=WARDS),
    DeclaredColumn(name="history", type="JSON"),
    DeclaredColumn(name="codes", type="ARRAY", nullable=False),
)
TABLE = (
    ("AGE", "INTEGER", "REQUIRED"),
    ("ward", "STRING", "NULLABLE"),
    ("history", "JSON", "NULLABLE"),
    ("codes", "STRING", "REPEATED"),
    ("patient_name", "STRING", "NULLABLE"),
)


def problems_of(**changes: tuple[str, str, str] | None) -> list[tuple[str, str]]:
    """Problems of a table whose columns are changed or, at None, dropped; each as message and disclosed."""
    rows = [changes.get(row[0].lower(), row) for row in TABLE]
    fields = bigquery_fields([row for row in rows if row is not None], of_query=False)
    return [(problem.message, problem.disclosed) for problem in check_declared(DECLARED, fields)]


class TestDeclarations:
    def test_declarations_that_can_be_checked(self) -> None:
        assert check_declarations(DECLARED) == []
        assert check_declarations([DeclaredColumn(name=kind, type=kind) for kind in TYPES]) == []

    @pytest.mark.parametrize(
        ("changes", "complaint"),
        [
            ({"name": "a b"}, "'a b' is not a plain name"),
            ({"type": "INTEGER"}, "type 'INTEGER': write INT64"),
            ({"type": "string"}, "type 'string': write STRING"),
            ({"type": "ARRAY<STRING>"}, "declare the outer type alone, ARRAY"),
            ({"type": "NUMERIC(10, 2)"}, "declare it without its length or precision, NUMERIC"),
            ({"type": "TEXT"}, "use one of STRING, BYTES, INT64"),
            ({"type": "INT64", "allowed_values": ("1",)}, "only STRING may have them"),
            ({"allowed_values": ("b", "a", "a")}, "allows 'a' twice"),
        ],
    )
    def test_what_cannot_be_checked_is_one_line(self, changes: dict[str, Any], complaint: str) -> None:
        column = DeclaredColumn(**{"name": "x", "type": "STRING", **changes})
        (problem,) = check_declarations([column])
        assert complaint in problem
        assert "\n" not in problem

    def test_all_problems_are_told_at_once(self) -> None:
        columns = [
            DeclaredColumn(name="a", type="FLOAT"),
            DeclaredColumn(name="A", type="STRING"),
            DeclaredColumn(name="-", type="BOOLEAN"),
        ]
        assert len(check_declarations(columns)) == 4


class TestSchema:
    def test_a_table_that_keeps_the_declaration(self) -> None:
        assert problems_of() == []

    def test_every_problem_is_one_line_with_value_rule_and_mend(self) -> None:
        found = problems_of(
            age=("AGE", "STRING", "NULLABLE"),
            ward=None,
            history=("history", "RECORD", "NULLABLE"),
            codes=("codes", "STRING", "NULLABLE"),
        )
        assert found == [
            (
                "column 'age' is STRING, and INT64 is declared: CAST it in the site's sql",
                "column 'age' has the wrong type",
            ),
            (
                "column 'age' has mode NULLABLE, and is declared without NULL: make it REQUIRED in the "
                "table, or declare it nullable",
                "column 'age' may be NULL",
            ),
            (
                "column 'ward' is missing (there are AGE, history, codes, patient_name): select it, or "
                "rename one with AS, in the site's sql",
                "column 'ward' is missing",
            ),
            (
                "column 'history' is STRUCT, and JSON is declared: CAST it in the site's sql",
                "column 'history' has the wrong type",
            ),
            (
                "column 'codes' is STRING, and ARRAY is declared: CAST it in the site's sql",
                "column 'codes' has the wrong type",
            ),
            (
                "column 'codes' has mode NULLABLE, and is declared without NULL: make it REQUIRED in the "
                "table, or declare it nullable",
                "column 'codes' may be NULL",
            ),
        ]

    def test_the_warehouses_own_names_are_not_disclosed(self) -> None:
        (problem,) = check_declared(
            DECLARED[:1], [TableField(f"{SECRET} {number}", "STRING", "") for number in range(30)]
        )
        assert SECRET in problem.message
        assert "and 10 more" in problem.message
        assert problem.disclosed == "column 'age' is missing"

    def test_a_querys_modes_say_nothing(self) -> None:
        fields = bigquery_fields([("age", "INTEGER", "NULLABLE")], of_query=True)
        assert check_declared(DECLARED[:1], fields) == []
        assert fields == [TableField("age", "INT64", "")]
        assert bigquery_fields([("codes", "STRING", "REPEATED")], of_query=True)[0].type == "ARRAY"

    def test_a_mode_that_bigquery_does_not_have(self) -> None:
        with pytest.raises(ValueError, match="mode 'OPTIONAL': BigQuery has NULLABLE, REQUIRED, REPEATED"):
            bigquery_fields([("age", "INTEGER", "OPTIONAL")], of_query=False)

    @pytest.mark.parametrize(
        ("declared", "found", "accepted"),
        [
            ("JSON", "STRING", True),
            ("STRING", "JSON", False),
            ("BIGNUMERIC", "NUMERIC", True),
            ("NUMERIC", "BIGNUMERIC", False),
            ("INT64", "STRING", False),
            ("FLOAT64", "INT64", False),
            ("NUMERIC", "INT64", False),
            ("TIMESTAMP", "DATETIME", False),
            ("STRING", "BYTES", False),
        ],
    )
    def test_types_must_be_the_declared_ones_or_hold_no_more(
        self, declared: str, found: str, accepted: bool
    ) -> None:
        column = DeclaredColumn(name="x", type=declared)
        assert (check_declared([column], [TableField("x", found, "")]) == []) is accepted

    def test_one_error_tells_all_problems_once_and_on_one_line(self) -> None:
        problems = check_declared(DECLARED[:2], [TableField("age", "BOOL", "")])
        error = bad_data([*problems, *problems])
        assert str(error) == "; ".join(problem.message for problem in problems)
        assert error.disclosed == "column 'age' has the wrong type; column 'ward' is missing"


class TestArrowTypes:
    def test_duckdbs_types_are_told_in_bigquerys_words(self) -> None:
        words = {
            "STRING": ["VARCHAR", "UUID", "ENUM('a', 'b')"],
            "BYTES": ["BLOB"],
            "INT64": ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"],
            "NUMERIC": ["UBIGINT", "DECIMAL(18, 3)", "DECIMAL(38, 9)"],
            "BIGNUMERIC": ["HUGEINT", "DECIMAL(38, 20)"],
            "FLOAT64": ["FLOAT", "DOUBLE"],
            "BOOL": ["BOOLEAN"],
            "DATE": ["DATE"],
            "DATETIME": ["TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_NS"],
            "TIMESTAMP": ["TIMESTAMPTZ"],
            "TIME": ["TIME"],
            "INTERVAL": ["INTERVAL"],
            "STRUCT": ["STRUCT(a INTEGER)"],
            "ARRAY": ["INTEGER[]", "INTEGER[3]", "MAP(VARCHAR, INTEGER)", "STRUCT(a INTEGER)[]"],
        }
        expected = [word for word, kinds in words.items() for _ in kinds]
        kinds = [kind for group in words.values() for kind in group]
        columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(kinds))
        with duckdb.connect() as connection:
            connection.execute(f"CREATE TABLE records ({columns})")
            schema = connection.sql("FROM records").to_arrow_table().schema
        assert [field.type for field in arrow_fields(schema)] == expected

    @pytest.mark.parametrize(
        ("kind", "word"),
        [
            (pa.decimal128(38, 9), "NUMERIC"),
            (pa.decimal128(38, 8), "BIGNUMERIC"),
            (pa.decimal256(76, 38), "BIGNUMERIC"),
            (pa.decimal256(76, 37), "decimal256(76, 37)"),
            (pa.decimal256(76, 0), "decimal256(76, 0)"),
            (pa.json_(), "JSON"),
            (pa.uuid(), "STRING"),
            (pa.bool8(), "INT64"),
            (pa.float16(), "FLOAT64"),
            (pa.large_string(), "STRING"),
            (pa.binary(16), "BYTES"),
            (pa.large_list_view(pa.int8()), "ARRAY"),
            (pa.null(), "null"),
        ],
    )
    def test_arrows_other_types(self, kind: pa.DataType, word: str) -> None:
        assert arrow_type(kind) == word
        assert arrow_type(pa.dictionary(pa.int8(), pa.string())) == "STRING"

    def test_bigquery_marks_what_arrow_has_only_strings_for(self) -> None:
        def marked(name: str, kind: pa.DataType, word: str) -> pa.Field:
            return pa.field(name, kind, metadata={"ARROW:extension:name": f"google:sqlType:{word}"})

        schema = pa.schema(
            [
                marked("history", pa.string(), "json"),
                marked("place", pa.string(), "geography"),
                marked("at", pa.timestamp("us"), "datetime"),
                marked("histories", pa.list_(pa.string()), "json"),
                marked("odd", pa.string(), "\udcff".encode(errors="surrogateescape").decode("latin-1")),
                pa.field("id", pa.int64(), nullable=False),
            ]
        )
        assert arrow_fields(schema) == [
            TableField("history", "JSON", ""),
            TableField("place", "GEOGRAPHY", ""),
            TableField("at", "DATETIME", ""),
            TableField("histories", "ARRAY", "REPEATED"),
            TableField("odd", "STRING", ""),
            TableField("id", "INT64", "REQUIRED"),
        ]

    def test_an_arrow_schema_does_not_promise_that_there_is_no_null(self) -> None:
        assert check_declared(DECLARED[:1], arrow_fields(pa.schema({"age": pa.int32()}))) == []


def batch(**changes: list[Any] | pa.Array) -> pa.RecordBatch:
    columns = {
        "AGE": pa.array([61, 44, 9], pa.int64()),
        "ward": ["A1", None, "B2"],
        "history": ['{"a": 1}', None, "[]"],
        "codes": [["I10"], [], ["E11"]],
    }
    return pa.record_batch({**columns, **changes})


def row_problems(*batches: pa.RecordBatch | pa.Table) -> list[tuple[str, str]]:
    check = ColumnCheck(DECLARED)
    for each in batches:
        check.add(each)
    return [(problem.message, problem.disclosed) for problem in check.problems()]


class TestRows:
    def test_rows_that_keep_the_declaration(self) -> None:
        assert row_problems() == []
        assert row_problems(batch(), pa.table(batch()), batch().slice(0, 0)) == []

    @pytest.mark.parametrize(
        "wards",
        [
            pa.array(["A1", None, "B2"]).dictionary_encode(),
            pa.array(["A1", None, "B2"], pa.large_string()),
            pa.array(["A1", None, "B2"], pa.string_view()),
        ],
    )
    def test_strings_of_every_kind_are_compared(self, wards: pa.Array) -> None:
        assert row_problems(batch(ward=wards)) == []

    def test_every_problem_is_counted_over_all_batches(self) -> None:
        found = row_problems(
            batch(AGE=pa.array([1, None, None], pa.int64()), ward=["x\n", "A1", f"{SECRET}"]),
            batch(history=["{", None, "{'a': 1}"], codes=[None, [], []]),
            batch(ward=["z" * 200, "B2", None], history=pa.array(["NaN", "1", "2"], pa.json_())),
        )
        assert found == [
            (
                "column 'age' is NULL in 2 of 9 rows, and is declared without: filter such rows out, or "
                "use COALESCE, in the site's sql",
                "column 'age' is NULL in some rows",
            ),
            (
                f"column 'ward' holds '{SECRET}', and 3 of 9 rows are none of the 2 allowed values: map "
                "them to one in the site's sql, or allow them in the federation file",
                "column 'ward' holds a value that is not allowed",
            ),
            (
                "column 'history' is not JSON in 3 of 9 rows, and is declared so: use SAFE.PARSE_JSON in "
                "the site's sql, or declare it STRING",
                "column 'history' holds a value that is not JSON",
            ),
            (
                "column 'codes' is NULL in 1 of 9 rows, and is declared without: filter such rows out, or "
                "use COALESCE, in the site's sql",
                "column 'codes' is NULL in some rows",
            ),
        ]

    @pytest.mark.parametrize("value", ["x\ny\x1b[31m", "z" * 9999, "", "A1 ", "a1"])
    def test_a_value_outside_is_quoted_on_one_short_line(self, value: str) -> None:
        ((message, disclosed),) = row_problems(batch(ward=["A1", value, "B2"]))
        assert repr(value[:80])[1:-1] in message
        assert "\n" not in message
        assert "\x1b" not in message
        assert len(message) < 300
        assert disclosed == "column 'ward' holds a value that is not allowed"

    def test_a_column_that_the_batch_lacks(self) -> None:
        with pytest.raises(BadDataError, match="column 'history' is missing") as caught:
            row_problems(batch().drop_columns(["history"]))
        assert caught.value.disclosed == "column 'history' is missing"

    def test_names_are_found_without_case(self) -> None:
        assert column_of(batch(), "age").to_pylist() == [61, 44, 9]


ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 9)),
        st.one_of(st.none(), st.sampled_from([*WARDS, "C3", "a", ""])),
        st.one_of(st.none(), st.sampled_from(["{}", "[1, 2]", "{", "nil"])),
    ),
    max_size=12,
)


def batch_of(rows: list[tuple[int | None, str | None, str | None]]) -> pa.RecordBatch:
    ages, wards, histories = ([row[at] for row in rows] for at in range(3))
    return pa.record_batch(
        {
            "age": pa.array(ages, pa.int64()),
            "ward": pa.array(wards, pa.string()),
            "history": pa.array(histories, pa.string()),
        }
    )


@given(ROWS, st.data())
def test_problems_are_those_of_a_plain_count_however_the_rows_are_cut_and_ordered(
    rows: list[tuple[int | None, str | None, str | None]], data: st.DataObject
) -> None:
    whole, parts = ColumnCheck(DECLARED[:3]), ColumnCheck(DECLARED[:3])
    whole.add(batch_of(rows))
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    for part in (shuffled[:cut], shuffled[cut:]):
        parts.add(batch_of(part))
    assert parts.problems() == whole.problems()

    of_all = f"of {len(rows)} rows"
    nulls = sum(age is None for age, _, _ in rows)
    outside = sorted(ward for _, ward, _ in rows if ward is not None and ward not in WARDS)
    broken = sum(not readable(text) for _, _, text in rows)
    expected = {
        f"column 'age' is NULL in {nulls} {of_all}": nulls,
        f"column 'ward' holds {min(outside, default='')!r}, and {len(outside)} {of_all}": len(outside),
        f"column 'history' is not JSON in {broken} {of_all}": broken,
    }
    messages = [problem.message for problem in whole.problems()]
    assert len(messages) == sum(count > 0 for count in expected.values())
    for beginning in (beginning for beginning, count in expected.items() if count):
        assert any(message.startswith(beginning) for message in messages)


def readable(text: str | None) -> bool:
    try:
        json.loads(text or "null")
    except ValueError:
        return False
    return True
