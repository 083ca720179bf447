"""One suite for every kind of source; a source of another kind joins it as a parameter."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data_processing import duckdb_source
from components.data_processing.duckdb_source import ROWS_A_BATCH
from components.data_processing.sources import KINDS, Source, open_source
from components.errors import BadDataError, SourceUnreachableError, UsageError
from tests.components.data_processing.bigquery.server.local_bigquery import LocalBigQuery

FILES = ("duckdb", "parquet")
Opener = Callable[[pa.Table], Source]
SECRET = "Ada Lovelace, 10 December 1815"


def answer(source: Source, statement: str) -> pa.Table:
    """All rows of `statement`."""
    return pa.Table.from_batches(source.batches(statement))


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens a source of each kind over a table `records`."""
    with contextlib.ExitStack() as stack:
        yield opener(request.param, tmp_path, stack)


@pytest.fixture(params=FILES)
def opened_file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """The same of kinds that are files, read through DuckDB in this process."""
    with contextlib.ExitStack() as stack:
        yield opener(request.param, tmp_path, stack)


def opener(kind: str, folder: Path, stack: contextlib.ExitStack) -> Opener:
    def open_over(table: pa.Table) -> Source:
        if kind == "bigquery":
            service = stack.enter_context(LocalBigQuery())
            service.warehouse.put("clinic", "records", table)
            terms = service.terms(default_dataset="clinic")
            source = open_source(kind, "bigquery://demo/clinic", terms=terms)
        else:
            source = open_source(kind, write(kind, table, folder))
        return stack.enter_context(contextlib.closing(source))

    return open_over


def write(kind: str, table: pa.Table, folder: Path) -> str:
    if kind == "duckdb":
        path = folder / "warehouse.duckdb"
        with duckdb.connect(path) as connection:
            connection.register("incoming", table)
            connection.execute("CREATE TABLE records AS SELECT * FROM incoming")
        return str(path)
    (folder / "parts").mkdir()
    half = table.num_rows // 2
    pq.write_table(table.slice(0, half), folder / "parts" / "0.parquet")
    pq.write_table(table.slice(half), folder / "parts" / "1.parquet")
    return f"{folder}/parts/*.parquet"


RECORDS = pa.table({"id": [1, 2, 3, 4], "ward": ["a", "b", "a", None], "name": [SECRET] * 4})


def test_a_query_in_bigquerys_dialect_is_answered(opened: Opener) -> None:
    source = opened(RECORDS)
    table = answer(
        source, "SELECT `ward`, COUNT(*) AS n, SAFE_CAST('x' AS INT64) AS x FROM records GROUP BY 1"
    )
    assert sorted(table.to_pylist(), key=str) == [
        {"ward": "a", "n": 2, "x": None},
        {"ward": "b", "n": 1, "x": None},
        {"ward": None, "n": 1, "x": None},
    ]


def test_schema_names_the_columns_without_rows(opened: Opener) -> None:
    schema = opened(RECORDS).schema("SELECT ward, id * 2 AS twice FROM records")
    assert schema.names == ["ward", "twice"]
    assert pa.types.is_string(schema.field("ward").type)
    assert pa.types.is_integer(schema.field("twice").type)


def test_fingerprints_of_the_documentation(opened: Opener) -> None:
    table = pa.table({"x": [1, 2, 3], "y": ["foo", "apple", ""], "z": [True, False, True]})
    source = opened(table)
    key = "CONCAT(CAST(x AS STRING), y, CAST(z AS STRING))"
    sql = f"SELECT x, FARM_FINGERPRINT({key}) AS f FROM records"
    documented = {1: -1541654101129638711, 2: 2794438866806483259, 3: -4880158226897771312}
    assert {row["x"]: row["f"] for row in answer(source, sql).to_pylist()} == documented


@pytest.mark.parametrize(
    ("sql", "disclosed"),
    [
        ("SELECT gone FROM records", "there is no table or column 'gone'"),
        ("SELECT r.gone FROM records AS r", "there is no table or column 'gone'"),
        ("SELECT id FROM lost", "there is no table or column 'lost'"),
        ("SELECT CAST(name AS INT64) AS n FROM records", "the query failed"),
        ("SELECT ERROR(name) AS n FROM records", "the query failed"),
        ("SELECT id FROM records; SELECT 1", "the query is not one SELECT"),
        ("DROP TABLE records", "the query is not one SELECT"),
    ],
)
def test_a_failed_query_tells_others_nothing_of_a_row(opened: Opener, sql: str, disclosed: str) -> None:
    with pytest.raises(BadDataError) as caught:
        answer(opened(RECORDS), sql)
    assert disclosed in caught.value.disclosed
    assert "Ada" not in caught.value.disclosed
    assert "\n" not in str(caught.value) + caught.value.disclosed
    chained = caught.value.__cause__ or (not caught.value.__suppress_context__ and caught.value.__context__)
    assert not chained, "DuckDB's own error quotes rows and would be printed with the trace"


def test_a_name_that_only_the_warehouse_knows_is_not_disclosed(opened_file: Opener) -> None:
    with pytest.raises(BadDataError) as caught:
        answer(opened_file(RECORDS), "SELECT nam FROM records")
    assert '"name"' in str(caught.value)  # DuckDB suggests what exists
    assert caught.value.disclosed == "the query failed: there is no table or column 'nam'"


def test_a_name_in_the_definition_of_a_view_is_not_disclosed(tmp_path: Path) -> None:
    uri = write("duckdb", RECORDS, tmp_path)
    with duckdb.connect(uri) as connection:
        connection.execute("CREATE VIEW ward_view AS SELECT ward FROM records")
        connection.execute("ALTER TABLE records RENAME TO oncology_trial")
    with contextlib.closing(open_source("duckdb", uri)) as source, pytest.raises(BadDataError) as caught:
        answer(source, "SELECT ward FROM ward_view")
    assert "'records'" not in caught.value.disclosed
    assert caught.value.disclosed.startswith("the query failed: ")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{other}')",
        "SELECT * FROM read_csv('{other}')",
        "SELECT * FROM `{other}`",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM variable_of_this_process",
    ],
)
def test_a_query_reads_nothing_but_the_source(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    # DuckDB would take a table that it does not have from the variables of whoever calls it.
    monkeypatch.setattr(duckdb_source, "variable_of_this_process", RECORDS, raising=False)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(BadDataError):
        answer(opened(RECORDS), sql.format(other=other, folder=tmp_path))


def test_another_process_can_read_the_same_warehouse_at_the_same_time(tmp_path: Path) -> None:
    uri = write("duckdb", RECORDS, tmp_path)
    program = (
        "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).sql('FROM records').shape)"
    )
    with contextlib.closing(open_source("duckdb", uri)):
        told = subprocess.run(
            [sys.executable, "-c", program, uri], capture_output=True, text=True, timeout=60, check=True
        )
    assert told.stdout.strip() == "(4, 3)"


def test_reading_leaves_the_folder_as_it_was(opened: Opener, tmp_path: Path) -> None:
    source = opened(RECORDS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    answer(source, "SELECT ward FROM records ORDER BY id")
    source.close()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("kind", FILES)
def test_a_missing_warehouse_is_unreachable(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    with pytest.raises(SourceUnreachableError) as caught:
        open_source(kind, "warehouses/gone.file")
    assert str(tmp_path / "warehouses" / "gone.file") in str(caught.value)
    assert caught.value.disclosed == "the warehouse is not there"


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_kind_is_unreachable(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"neither DuckDB nor Parquet" * 1000)
    with pytest.raises(SourceUnreachableError) as caught:
        open_source(kind, str(path))
    assert caught.value.disclosed == "the warehouse cannot be opened"
    assert "\n" not in str(caught.value)


def test_a_path_may_be_relative_to_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    write("parquet", RECORDS, tmp_path)
    source = open_source("parquet", "parts/*.parquet")
    assert answer(source, "SELECT COUNT(*) AS n FROM records").to_pylist() == [{"n": 4}]
    source.close()


def test_unknown_kinds_and_remote_paths_are_refused() -> None:
    with pytest.raises(UsageError, match="'oracle': use duckdb, parquet or bigquery"):
        open_source("oracle", "x")
    with pytest.raises(UsageError, match="s3://"):
        open_source("parquet", "s3://bucket/x.parquet")


def test_rows_come_in_batches_of_one_schema(opened: Opener) -> None:
    source = opened(pa.table({"id": range(20_000), "name": [SECRET] * 20_000}))
    batches = list(source.batches("SELECT name, id FROM records"))
    assert len(batches) > 2
    assert max(batch.num_rows for batch in batches) <= ROWS_A_BATCH
    assert {str(batch.schema) for batch in batches} == {str(source.schema("SELECT name, id FROM records"))}
    assert sorted(pa.Table.from_batches(batches).column("id").to_pylist()) == list(range(20_000))


@pytest.mark.parametrize("columns", ["id, ward", "TO_JSON(ward) AS context"])
def test_no_rows_are_one_empty_batch_with_the_schema(opened: Opener, columns: str) -> None:
    source = opened(RECORDS)
    statement = f"SELECT {columns} FROM records WHERE id > 9"
    (batch,) = source.batches(statement)
    assert batch.num_rows == 0
    assert batch.schema == source.schema(statement)


@pytest.mark.parametrize(
    ("expression", "disclosed"),
    [
        ("CAST(name AS INT64)", "the query failed: ConversionException"),
        ("IF(id = 19999, ERROR(name), 'x')", "the query failed: InvalidInputException"),
        ("id * 9223372036854775807", "the query failed: OutOfRangeException"),
        ("FARM_FINGERPRINT(REPEAT(name, 3))", "a FARM_FINGERPRINT key is longer than 63 bytes"),
    ],
)
def test_what_fails_on_the_way_is_told_like_what_fails_at_once(
    opened_file: Opener, expression: str, disclosed: str
) -> None:
    """The last of 20,000 rows is the one that cannot be read, so other batches come before."""
    names = ["7"] * 19_999 + [SECRET]
    source = opened_file(pa.table({"id": range(20_000), "name": names}))
    batches = source.batches(f"SELECT {expression} AS x FROM records")
    with pytest.raises(BadDataError) as caught:
        for _ in batches:
            pass
    assert caught.value.disclosed == disclosed
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert not caught.value.__cause__
    assert answer(source, "SELECT COUNT(*) AS n FROM records").to_pylist() == [{"n": 20_000}]


def test_an_answer_that_is_left_halfway_is_in_nobodys_way(opened: Opener) -> None:
    source = opened(pa.table({"id": range(20_000)}))
    batches = source.batches("SELECT id FROM records")
    assert next(batches).num_rows > 0
    assert answer(source, "SELECT COUNT(*) AS n FROM records").to_pylist() == [{"n": 20_000}]


def test_a_query_that_sorts_gets_more_memory_than_one_that_passes_rows_on(
    opened_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB must hold what it sorts, since it may not put it on the disk."""
    monkeypatch.setattr(duckdb_source, "MEMORY_LIMIT", "32MiB")
    monkeypatch.setattr(duckdb_source, "MOST_MEMORY", "128MiB")
    source = opened_file(pa.table({"id": range(20_000)}))

    def rows(statement: str) -> int:
        return sum(batch.num_rows for batch in source.batches(statement))

    text = "REPEAT(CAST(id + 100000 AS STRING), {size}) AS text"
    assert rows(f"SELECT {text.format(size=2000)} FROM records") == 20_000  # 240 MB
    assert rows(f"SELECT {text.format(size=400)} FROM records ORDER BY text") == 20_000  # 48 MB
    with pytest.raises(BadDataError) as caught:
        rows(f"SELECT {text.format(size=2000)} FROM records ORDER BY text")
    assert caught.value.disclosed == "the query failed: OutOfMemoryException"


def test_reading_a_file_costs_nothing(opened_file: Opener) -> None:
    source = opened_file(RECORDS)
    answer(source, "SELECT id FROM records")
    assert source.account() == {}


def test_reading_bigquery_costs_what_its_job_says(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        source = opener("bigquery", tmp_path, stack)(RECORDS)
        answer(source, "SELECT id FROM records")
        account = source.account()
    assert account["bytes_processed"] == 4 * 8
    assert account["bytes_billed"] == 10 * 2**20, "the least that BigQuery bills for a table"


def test_bigquery_is_read_on_terms_alone() -> None:
    with pytest.raises(UsageError, match="bigquery://demo/clinic is read on a site's own terms"):
        open_source("bigquery", "bigquery://demo/clinic")
