from __future__ import annotations

import pytest
import sqlglot
from sqlglot import exp

from components.data_processing.query import (
    check_columns,
    check_sql,
    extraction_statement,
    names_in,
    to_duckdb,
)
from components.errors import BadDataError, UsageError

GOOD = [
    "SELECT a FROM t",
    "SELECT a FROM t;",
    "SELECT a FROM t; -- and a remark",
    "WITH u AS (SELECT a FROM `project-1.dataset.table`) SELECT * EXCEPT (b) FROM u WHERE a > 1 LIMIT 5",
    "(SELECT a FROM t) UNION ALL SELECT a FROM u",
    "SELECT 'a;b', r'''c;d''' AS `e f` FROM t",
]


@pytest.mark.parametrize("sql", GOOD)
def test_one_select_is_accepted(sql: str) -> None:
    assert check_sql(sql) == []


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("SELECT a FROM t; DROP TABLE t", "line 1, column 18: a second statement begins with 'DROP'"),
        ("SELECT 'é';\n SELECT 2", "line 2, column 2: a second statement begins with 'SELECT'"),
        ("DROP TABLE t", "line 1, column 1: 'DROP' begins no SELECT"),
        ("\n  delete from t", "line 2, column 3: 'delete' begins no SELECT"),
        ("CREATE TABLE u AS SELECT a FROM t", "'CREATE' begins no SELECT"),
        ("EXECUTE IMMEDIATE 'DROP TABLE t'", "'EXECUTE' begins no SELECT"),
        ("EXPORT DATA OPTIONS (uri='gs://b/*') AS SELECT 1", "'EXPORT' begins no SELECT"),
        ("WITH u AS (INSERT INTO t VALUES (1)) SELECT 1", "INSERT is not allowed inside"),
        ("WITH u AS (SELECT 1) DELETE FROM t WHERE TRUE", "not a SELECT"),
        ("", "the query is empty"),
        (" ; -- nothing", "the query is empty"),
        ("SELECT a,\n  b cc dd FROM t", "line 2, column 8: Invalid expression / Unexpected token at 'dd'"),
        ("SELECT a FROM t WHERE", "line 1, column 17: something is missing at 'WHERE'"),
        ("SELECT a FROM (", "line 1, column 15: Expected table name at '('"),
        ("SELECT 1\n, 'a", "line 2: ' is opened and not closed"),
        ("SELECT a /* b", "cannot be read"),
        ("SELECT a FROM t WHERE b = @day", "query parameter"),
        ("SELECT a FROM t WHERE b = ?", "query parameter"),
        ("(" * 5000 + "SELECT 1" + ")" * 5000, "nested too deeply"),
    ],
)
def test_anything_else_is_refused_in_one_line(sql: str, complaint: str) -> None:
    problems = check_sql(sql)
    assert len(problems) == 1
    assert complaint in problems[0]
    assert "\n" not in problems[0]
    assert "\x1b" not in problems[0]
    with pytest.raises(BadDataError) as caught:
        statement(sql)
    assert complaint in str(caught.value)
    assert caught.value.disclosed == "the query is not one SELECT"


def statement(sql: str, **changes: object) -> str:
    arguments: dict[str, object] = {
        "columns": ["notes", "ward"],
        "label_column": "chapter",
        "split_column": "category",
        "test_fraction": 0.2,
    }
    return extraction_statement(sql, **(arguments | changes))  # type: ignore[arg-type]


def test_extraction_is_bigquery_text_that_lets_three_kinds_of_columns_through() -> None:
    text = statement("SELECT * FROM `p.d.t` -- every column\n;")
    assert text == (
        "SELECT `notes` AS `notes`, `ward` AS `ward`, `chapter` AS `chapter`, "
        "ABS(MOD(FARM_FINGERPRINT(CAST(`category` AS STRING)), 1000)) < 200 AS is_test "
        "FROM (SELECT * FROM `p.d.t`) AS site_query"
    )
    parsed = sqlglot.parse_one(text, read="bigquery")
    assert isinstance(parsed, exp.Select)
    assert parsed.named_selects == ["notes", "ward", "chapter", "is_test"]


@pytest.mark.parametrize("sql", GOOD)
def test_wrapping_keeps_one_select_that_can_be_wrapped_again(sql: str) -> None:
    wrapped = statement(sql)
    assert check_sql(wrapped) == []
    assert len(sqlglot.parse(to_duckdb(wrapped), read="duckdb")) == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"columns": []}, "no text column"),
        ({"columns": ["notes", "Notes"]}, "'Notes' is named twice"),
        ({"columns": ["a` FROM secrets; --"]}, "not a plain name"),
        ({"columns": ["notes", "CHAPTER"]}, "also a text column"),
        ({"columns": ["is_test"]}, "'is_test' is reserved"),
        ({"columns": ["Label"]}, "'Label' is reserved"),
        ({"label_column": "IS_TEST"}, "'IS_TEST' is reserved"),
        ({"split_column": "Chapter"}, "also the label"),
        ({"test_fraction": 0.0}, "got 0.0"),
        ({"test_fraction": 1.0}, "got 1.0"),
        ({"test_fraction": 0.0005}, "multiple of 0.001"),
        ({"test_fraction": 0.2005}, "multiple of 0.001"),
        ({"test_fraction": float("nan")}, "got nan"),
    ],
)
def test_columns_and_fraction_that_cannot_be_kept_are_refused(
    changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        statement("SELECT * FROM t", **changes)


def test_every_problem_of_the_columns_is_reported_at_once() -> None:
    problems = check_columns(
        columns=["chapter", "is_test"], label_column="chapter", split_column="chapter", test_fraction=2.0
    )
    assert len(problems) == 4
    assert check_columns(columns=["a"], label_column="label", split_column="a", test_fraction=0.001) == []


def test_names_are_those_the_statement_writes() -> None:
    assert names_in("SELECT a.`Ward`, 'value' FROM `p.d.t` AS a") == {"a", "ward", "p", "d", "t"}


class TestParameters:
    """A name whose value the site's terms have is part of a query; no other placeholder is."""

    SQL = "SELECT notes, ward, chapter, category FROM t WHERE day >= @Since AND ward IN UNNEST(@wards)"

    def test_declared_ones_are_admitted_without_case(self) -> None:
        assert check_sql(self.SQL, ("since", "WARDS", "unused")) == []
        assert "parameter" in check_sql(self.SQL, ("since",))[0]
        assert "parameter" in check_sql(self.SQL)[0]

    def test_the_statement_names_them_as_the_query_does(self) -> None:
        built = sqlglot.parse_one(statement(self.SQL, parameters=("since", "wards")), read="bigquery")
        assert {node.name for node in built.find_all(exp.Parameter)} == {"Since", "wards"}
        with pytest.raises(BadDataError, match="query parameter"):
            statement(self.SQL, parameters=("wards",))

    @pytest.mark.parametrize("placeholder", ["?", "@@since", "@@session.since", "@`since`", "@other"])
    def test_nothing_else_is(self, placeholder: str) -> None:
        problems = check_sql(f"SELECT a FROM t WHERE b = {placeholder}", ("since", "session"))
        assert len(problems) == 1

    def test_a_parameter_is_no_name_of_a_table_or_column(self) -> None:
        assert names_in("SELECT a FROM t WHERE a > @since", ("since",)) == {"a", "t"}
