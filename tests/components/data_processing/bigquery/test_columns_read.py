"""Decided by hand for each form of a query, and checked against DuckDB: what changes an answer was read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
import sqlglot

from components.data_processing.bigquery.columns_read import ColumnName, columns_read
from components.data_processing.bigquery.policy_tags import check_policy_tags
from components.data_processing.bigquery.statement import parse_statement
from components.data_processing.bigquery.table_schema import Column, TableName, TableSchema
from components.errors import RefusedError

TAG = "projects/p/locations/eu/taxonomies/1/policyTags/2"
VISITS = TableName("demo", "d", "t")
WARDS = TableName("demo", "d", "u")
VIEW = TableName("demo", "d", "v")


def table(name: TableName, columns: dict[str, str], **changes: Any) -> TableSchema:
    tagged = {"ssn", "person"}
    made = tuple(
        Column(name=column, kind=kind, mode="NULLABLE", policy_tags=(TAG,) if column in tagged else ())
        for column, kind in columns.items()
    )
    return TableSchema(**({"name": name, "kind": "TABLE", "location": "EU", "columns": made} | changes))


SCHEMAS = {
    VISITS: table(
        VISITS,
        {
            "id": "INT64",
            "note": "STRING",
            "ssn": "STRING",
            "person": "STRUCT<`ssn` STRING, `age` INT64>",
            "items": "ARRAY<STRUCT<`k` STRING>>",
        },
    ),
    WARDS: table(WARDS, {"id": "INT64", "code": "STRING", "ssn": "STRING"}),
}


def read(sql: str, schemas: dict[TableName, TableSchema] | None = None) -> set[str]:
    """Columns as `table.column`; `schemas` are those of the tables that the query names."""
    statement = parse_statement(sql, project="demo")
    named = {name: SCHEMAS[name] for name in statement.tables() if name in SCHEMAS}
    found = columns_read(statement, named if schemas is None else schemas)
    return {f"{name.table.table}.{name.column}" for name in found}


EXACT = [
    ("SELECT note FROM d.t", "t.note"),
    ("SELECT NOTE FROM d.t AS T", "t.note"),
    ("SELECT note FROM (SELECT * FROM d.t) AS q", "t.note"),
    ("SELECT q.note FROM (SELECT * EXCEPT (ssn) FROM d.t) AS q", "t.note"),
    ("SELECT COUNT(*) AS n FROM d.t", ""),
    ("SELECT a.note FROM d.t AS a JOIN d.u AS b ON a.ssn = b.ssn", "t.note t.ssn u.ssn"),
    ("SELECT note FROM d.t JOIN d.u USING (id)", "t.note t.id u.id"),
    ("SELECT note FROM d.t WHERE id IN (SELECT id FROM d.u WHERE ssn IS NULL)", "t.note t.id u.id u.ssn"),
    ("SELECT person.age FROM d.t", "t.person"),
    ("SELECT i.k FROM d.t, UNNEST(items) AS i", "t.items"),
    ("SELECT i.k FROM d.t AS x, x.items AS i", "t.items"),
    ("SELECT note FROM (SELECT note, ssn FROM d.t UNION ALL SELECT code, ssn FROM d.u)", "t.note u.code"),
    (
        "SELECT note FROM (SELECT note, ssn FROM d.t UNION DISTINCT SELECT code, ssn FROM d.u)",
        "t.note t.ssn u.code u.ssn",
    ),
    ("SELECT note FROM (SELECT DISTINCT note, ssn FROM d.t)", "t.note t.ssn"),
    ("SELECT note FROM (SELECT note, ssn FROM d.t ORDER BY ssn LIMIT 1)", "t.note t.ssn"),
    (
        "SELECT note FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY ssn) AS r FROM d.t) WHERE r = 1",
        "t.note t.ssn",
    ),
    ("SELECT note FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY ssn) AS r FROM d.t)", "t.note"),
    ("SELECT note FROM d.t QUALIFY ROW_NUMBER() OVER (ORDER BY ssn) = 1", "t.note t.ssn"),
    ("SELECT (SELECT MAX(ssn) FROM d.u WHERE u.id = t.id) AS m FROM d.t AS t", "t.id u.id u.ssn"),
    ("WITH a AS (SELECT * FROM d.t), b AS (SELECT * FROM a) SELECT note FROM b ORDER BY id", "t.note t.id"),
    ("SELECT TO_JSON_STRING(x) AS j FROM d.u AS x", "u.id u.code u.ssn"),
    ("SELECT TO_JSON_STRING(x) AS j FROM (SELECT id, code FROM d.u) AS x", "u.id u.code"),
    ("SELECT note FROM d.t WHERE _PARTITIONTIME > TIMESTAMP '2026-01-01'", "t.note"),
    ("SELECT note FROM d.t FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01'", "t.note"),
    ("SELECT note AS ssn FROM d.t WHERE ssn = 'a'", "t.note t.ssn"),
    ("SELECT UPPER(note) AS ssn FROM d.t GROUP BY ssn, note", "t.note t.ssn"),
    ("SELECT note AS z FROM (SELECT note, ssn AS y FROM d.t) GROUP BY z", "t.note"),
    ("SELECT COUNT(*) AS n FROM d.t GROUP BY ssn", "t.ssn"),
    ("SELECT MAX(note) AS m FROM d.t HAVING MAX(ssn) > 'a'", "t.note t.ssn"),
    ("SELECT code FROM (SELECT * REPLACE (ssn AS code) FROM d.u)", "u.ssn"),
    ("SELECT note FROM d.t FULL JOIN d.u USING (ssn)", "t.note t.ssn u.ssn"),
    ("SELECT note FROM d.t LEFT JOIN d.u ON t.id = u.id AND u.ssn = 'x'", "t.id t.note u.id u.ssn"),
    ("SELECT note FROM d.t AS x WHERE EXISTS (SELECT 1 FROM d.u WHERE u.ssn = x.ssn)", "t.note t.ssn u.ssn"),
    (
        "SELECT note FROM (SELECT note, ssn FROM d.t EXCEPT DISTINCT SELECT code, ssn FROM d.u)",
        "t.note t.ssn u.code u.ssn",
    ),
    (
        "WITH r AS (SELECT note, ssn FROM d.t) SELECT note FROM r WHERE note IN (SELECT ssn FROM r)",
        "t.note t.ssn",
    ),
    ("WITH ssn AS (SELECT note FROM d.t) SELECT note FROM ssn", "t.note"),
    ("SELECT STRING_AGG(note ORDER BY ssn) AS s FROM d.t", "t.note t.ssn"),
    (
        "SELECT a FROM (SELECT note AS a, MAX(ssn) AS b FROM d.t GROUP BY 1 ORDER BY b LIMIT 1)",
        "t.note t.ssn",
    ),
    ("SELECT `t`.`note` FROM d.t WHERE `T`.SSN = 'a'", "t.note t.ssn"),
    ("SELECT note FROM d.t AS t, (SELECT COUNT(*) AS n FROM (SELECT ssn FROM d.u)) AS c", "t.note"),
]


@pytest.mark.parametrize(("sql", "expected"), EXACT)
def test_what_is_read_is_decided_exactly(sql: str, expected: str) -> None:
    assert read(sql) == set(expected.split())


Databases = dict[tuple[str, int], duckdb.DuckDBPyConnection]
UNCHANGED = ("", -1)


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    """The tables as they are, and once for each column with every other of its values changed."""
    variants = [
        UNCHANGED,
        *((name.table, number) for name in SCHEMAS for number in range(len(SCHEMAS[name].columns))),
    ]
    connections = {variant: filled(*variant) for variant in variants}
    yield connections
    for connection in connections.values():
        connection.close()


def filled(changed_table: str, changed_column: int) -> duckdb.DuckDBPyConnection:
    changed = {"t": [977, "changed", "changed", {"ssn": "z", "age": 977}, [{"k": "z"}]], "u": [977, "z", "z"]}
    visits = [[n, f"n{n % 3}", f"s{n % 4}", {"ssn": f"s{n}", "age": n}, [{"k": f"k{n}"}]] for n in range(6)]
    wards = [[n, f"n{n % 2}", f"s{n % 3}"] for n in range(5)]
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA d")
    person = "STRUCT(ssn VARCHAR, age BIGINT)"
    connection.execute(
        f"CREATE TABLE d.t (id BIGINT, note VARCHAR, ssn VARCHAR, person {person}, items STRUCT(k VARCHAR)[])"
    )
    connection.execute("CREATE TABLE d.u (id BIGINT, code VARCHAR, ssn VARCHAR)")
    for name, rows in (("t", visits), ("u", wards)):
        for number, row in enumerate(rows):
            if name == changed_table and number % 2:
                row[changed_column] = changed[name][changed_column]
            connection.execute(f"INSERT INTO d.{name} VALUES ({', '.join('?' * len(row))})", row)
    return connection


# What DuckDB has no words for.
ELSEWHERE = ("_PARTITIONTIME", "SYSTEM_TIME", "TO_JSON")
RUNNABLE = [sql for sql, _ in EXACT if not any(word in sql for word in ELSEWHERE)]


@pytest.mark.parametrize("sql", RUNNABLE)
def test_a_column_that_changes_the_answer_counts_as_read(sql: str, databases: Databases) -> None:
    translated = sqlglot.transpile(sql, read="bigquery", write="duckdb")[0]
    answers = {
        variant: sorted(map(repr, connection.execute(translated).fetchall()))
        for variant, connection in databases.items()
    }
    changing = {
        f"{name}.{SCHEMAS[TableName('demo', 'd', name)].columns[number].name}"
        for (name, number), answer in answers.items()
        if answer != answers[UNCHANGED]
    }
    assert changing <= read(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT unknown FROM d.t",
        "SELECT STRUCT(t.*) AS s FROM d.t",
        "SELECT * FROM (SELECT note, ssn, id FROM d.t) PIVOT(SUM(id) FOR ssn IN ('a', 'b'))",
        "SELECT note FROM d.t AS t WHERE EXISTS (SELECT 1 FROM t.items WHERE k = 'a')",
        "SELECT note FROM d.t, d.f(1)",
        "SELECT note FROM d.t JOIN d.`w_*` USING (id)",
    ],
)
def test_what_cannot_be_decided_counts_as_read(sql: str) -> None:
    everything = {f"{name.table}.{each.name}" for name in SCHEMAS for each in SCHEMAS[name].columns}
    assert read(sql, SCHEMAS) == everything


def with_view(sql: str, **changes: Any) -> dict[TableName, TableSchema]:
    return {**SCHEMAS, VIEW: table(VIEW, {"note": "STRING"}, kind="VIEW", view_sql=sql, **changes)}


def test_a_view_reads_what_its_own_query_reads() -> None:
    schemas = with_view("SELECT id, note, ssn FROM demo.d.t")
    del schemas[WARDS]
    assert read("SELECT v.note FROM d.v", schemas) == {"t.note"}
    assert read("SELECT ssn FROM d.v AS x", schemas) == {"t.ssn"}


def test_a_view_in_a_view_is_followed_and_a_circle_is_not() -> None:
    inner = TableName("demo", "d", "w")
    schemas = with_view("SELECT note FROM d.w")
    del schemas[WARDS]
    schemas[inner] = table(inner, {"note": "STRING"}, kind="VIEW", view_sql="SELECT * FROM d.t")
    assert read("SELECT note FROM d.v", schemas) == {"t.note"}
    schemas[inner] = table(inner, {"note": "STRING"}, kind="VIEW", view_sql="SELECT * FROM d.v")
    assert "t.ssn" in read("SELECT note FROM d.v", schemas)


def test_a_view_whose_query_cannot_be_read_counts_with_all_that_lies_behind_it() -> None:
    schemas = with_view("")
    assert {"t.ssn", "u.ssn"} <= read("SELECT note FROM d.v", schemas)


def test_a_table_that_only_bigquery_names_counts_with_all_its_columns() -> None:
    assert read("SELECT code FROM d.u", SCHEMAS) == {"u.code"} | {
        f"t.{column.name}" for column in SCHEMAS[VISITS].columns
    }


SSN = ColumnName(VISITS, "ssn")
NOTE = ColumnName(VISITS, "note")


@pytest.mark.parametrize("allowed", [["ssn"], ["t.ssn"], ["T.SSN", "x"]])
def test_a_tagged_column_is_read_where_the_site_allows_it_by_name(allowed: list[str]) -> None:
    check_policy_tags([SSN, NOTE], SCHEMAS, allowed=allowed, written=["ssn"])


@pytest.mark.parametrize("allowed", [[], ["note"], ["u.ssn"], ["d.t.ssn"]])
def test_a_tagged_column_is_refused_otherwise(allowed: list[str]) -> None:
    with pytest.raises(RefusedError, match=r"policy tag: demo\.d\.t\.ssn \(projects/p/") as caught:
        check_policy_tags([SSN, NOTE], SCHEMAS, allowed=allowed, written=["ssn"])
    assert caught.value.disclosed == "the query reads a column with a policy tag: ssn"


def test_others_are_told_no_column_that_the_query_does_not_write() -> None:
    with pytest.raises(RefusedError) as caught:
        check_policy_tags([SSN], SCHEMAS, allowed=[], written=["t"])
    assert caught.value.disclosed == "the query reads a column with a policy tag"


def test_columns_without_a_tag_need_no_leave() -> None:
    check_policy_tags([NOTE, ColumnName(WARDS, "code")], SCHEMAS, allowed=[], written=[])
