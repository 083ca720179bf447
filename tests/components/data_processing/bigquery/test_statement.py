from __future__ import annotations

import re

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from components.data_processing.bigquery.statement import Statement, parse_statement
from components.data_processing.query import extraction_statement
from components.errors import BadDataError


def parsed(sql: str, *, default_dataset: str = "", declared: tuple[str, ...] = ()) -> Statement:
    return parse_statement(sql, project="demo", default_dataset=default_dataset, declared=declared)


def names(sql: str, default_dataset: str = "") -> set[str]:
    return {str(name) for name in parsed(sql, default_dataset=default_dataset).tables()}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a FROM `other-1.d.t` AS x", {"other-1.d.t"}),
        ("SELECT a FROM other-1.d.t", {"other-1.d.t"}),
        ("SELECT a FROM d.t, UNNEST(items) AS i", {"demo.d.t"}),
        ("SELECT a FROM d.t AS t, t.items AS i", {"demo.d.t"}),
        ("SELECT a FROM d.t WHERE EXISTS (SELECT 1 FROM t.items WHERE k = 'a')", {"demo.d.t"}),
        (
            "WITH u AS (SELECT a FROM d.t) SELECT * FROM u WHERE a IN (SELECT b FROM d.v)",
            {"demo.d.t", "demo.d.v"},
        ),
        ("WITH t AS (SELECT a FROM d.t) SELECT * FROM t JOIN d.u USING (a)", {"demo.d.t", "demo.d.u"}),
        ("SELECT (SELECT MAX(z) FROM d.v WHERE v.id = t.id) FROM d.t AS t", {"demo.d.t", "demo.d.v"}),
        ("(SELECT a FROM d.t) UNION ALL (SELECT a FROM d.u)", {"demo.d.t", "demo.d.u"}),
        ("SELECT a FROM (d.t JOIN d.u USING (id))", {"demo.d.t", "demo.d.u"}),
        ("WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c) SELECT n FROM c", set()),
        ("SELECT a FROM d.Visits JOIN d.visits AS v USING (a)", {"demo.d.Visits", "demo.d.visits"}),
        ("FROM d.t |> WHERE a > 1 |> SELECT a", {"demo.d.t"}),
    ],
)
def test_tables_are_what_a_query_reads_and_nothing_else(sql: str, expected: set[str]) -> None:
    assert names(sql) == expected


def test_a_table_named_alone_lies_in_the_default_dataset() -> None:
    assert names("SELECT a FROM t", "d") == {"demo.d.t"}
    assert names("SELECT a FROM t", "other.d") == {"other.d.t"}
    assert names("SELECT a FROM e.t", "other.d") == {"demo.e.t"}
    with pytest.raises(BadDataError, match=r"table 't' has no dataset: write dataset\.t") as caught:
        names("SELECT a FROM t")
    assert caught.value.disclosed == "table 't' has no dataset: write dataset.t"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a FROM d.t AS x", "SELECT a FROM d.t AS x FOR SYSTEM_TIME AS OF @snapshot"),
        (
            "WITH u AS (SELECT a FROM d.t) SELECT a FROM u CROSS JOIN UNNEST([1]) AS i",
            "WITH u AS (SELECT a FROM d.t FOR SYSTEM_TIME AS OF @snapshot) SELECT a FROM u "
            "CROSS JOIN UNNEST([1]) AS i",
        ),
    ],
)
def test_every_table_is_pinned(sql: str, expected: str) -> None:
    statement = parsed(sql)
    assert statement.as_of_snapshot().sql == expected
    assert statement.sql == sql
    assert statement.as_of_snapshot().parameters == {"snapshot"}


tables = st.sampled_from(["d.t", "`p-1.d.u` AS u", "d.v AS v"])
sources_of_any_depth = st.recursive(
    tables,
    lambda inner: st.one_of(
        inner.map(lambda source: f"(SELECT * FROM {source}) AS q"),
        st.tuples(inner, tables).map(
            lambda pair: f"(SELECT 1 AS a FROM {pair[0]} WHERE a IN (SELECT a FROM {pair[1]})) AS r"
        ),
        inner.map(lambda source: f"(SELECT a FROM {source} UNION ALL SELECT a FROM d.w) AS s"),
    ),
    max_leaves=4,
)


@settings(max_examples=15)
@given(sources_of_any_depth)
def test_pinning_marks_each_table_once_at_any_depth(source: str) -> None:
    sql = f"SELECT a FROM {source}"
    pinned = parsed(sql).as_of_snapshot().sql
    written = len(re.findall(r"\bd\.[tuvw]\b", sql))
    assert pinned.count("FOR SYSTEM_TIME AS OF @snapshot") == written
    again = sqlglot.parse_one(pinned, read="bigquery")
    assert all(node.args.get("version") for node in again.find_all(exp.Table))
    for version in list(again.find_all(exp.Version)):
        version.pop()
    assert again.sql("bigquery") == parsed(sql).sql


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        (
            "SELECT a FROM d.t FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01'",
            "'t' already has a FOR SYSTEM_TIME",
        ),
        ("SELECT * FROM d.f(1)", "cannot be read as of a snapshot"),
        ("SELECT * FROM EXTERNAL_QUERY('c', 'SELECT 1')", "cannot be read as of a snapshot"),
        ("SELECT * FROM ML.PREDICT(MODEL d.m, TABLE d.t)", "cannot be read as of a snapshot"),
    ],
)
def test_what_cannot_be_pinned_is_refused(sql: str, complaint: str) -> None:
    with pytest.raises(BadDataError, match=complaint) as caught:
        parsed(sql).as_of_snapshot()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        "WITH d AS (SELECT 1 AS a) SELECT * FROM d, p.d.d",
        "SELECT * FROM (SELECT a FROM d.t) JOIN (SELECT b FROM d.u) ON a = b",
    ],
)
def test_sources_that_cannot_be_told_apart_are_refused(sql: str) -> None:
    with pytest.raises(BadDataError, match="give each table and each subquery in a FROM its own alias"):
        names(sql)


def test_parameters_are_those_that_have_a_value() -> None:
    sql = "SELECT a FROM d.t WHERE day >= @Since AND ward IN UNNEST(@wards)"
    assert parsed(sql, declared=("since", "WARDS", "unused")).parameters == {"since", "wards"}
    with pytest.raises(BadDataError, match="parameter @wards, which has no value here") as caught:
        parsed(sql, declared=("since",))
    assert caught.value.disclosed == "the query uses the parameter @wards, which has no value here"


def test_the_snapshots_own_parameter_is_not_the_querys() -> None:
    with pytest.raises(BadDataError, match="@snapshot \\(the snapshot's own\\)"):
        parsed("SELECT a FROM d.t WHERE day < @snapshot")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "DELETE FROM d.t WHERE TRUE",
        "SELECT a FROM d.t WHERE b = ?",
        "SELECT @@project_id",
        "SELECT a FROM",
        "",
        "CREATE TABLE d.u AS SELECT @a",
    ],
)
def test_the_rules_of_a_query_are_those_of_every_source(sql: str) -> None:
    with pytest.raises(BadDataError, match="query refused: ") as caught:
        parsed(sql, declared=("a",))
    assert caught.value.disclosed == "the query is not one SELECT"
    assert "\n" not in str(caught.value)


def test_the_statement_that_ingestion_makes_is_sent_as_it_is() -> None:
    statement = extraction_statement(
        "SELECT * EXCEPT (ssn) FROM clinic.visits WHERE ward = r'''it's'''",
        columns=["note"],
        label_column="organ",
        split_column="category",
        test_fraction=0.2,
    )
    assert parsed(statement).sql == statement
    assert {"note", "organ", "category", "ssn", "visits"} <= parsed(statement).names()
