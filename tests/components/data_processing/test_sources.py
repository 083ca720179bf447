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
from components.data_processing.sources import KINDS, Source, open_source
from components.errors import BadDataError, SourceUnreachableError, UsageError

Opener = Callable[[pa.Table], Source]
SECRET = "Ada Lovelace, 10 December 1815"


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens a source of each kind over a table `records`."""
    sources: list[Source] = []

    def open_over(table: pa.Table) -> Source:
        uri = write(request.param, table, tmp_path)
        sources.append(open_source(request.param, uri))
        return sources[-1]

    yield open_over
    for source in sources:
        source.close()


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
    table = source.read("SELECT `ward`, COUNT(*) AS n, SAFE_CAST('x' AS INT64) AS x FROM records GROUP BY 1")
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
    sql = f"SELECT FARM_FINGERPRINT({key}) AS f FROM records ORDER BY x"
    documented = [-1541654101129638711, 2794438866806483259, -4880158226897771312]
    assert source.read(sql).column("f").to_pylist() == documented


@pytest.mark.parametrize(
    ("sql", "disclosed"),
    [
        ("SELECT gone FROM records", "there is no table or column 'gone'"),
        ("SELECT r.gone FROM records AS r", "there is no table or column 'gone'"),
        ("SELECT id FROM lost", "there is no table or column 'lost'"),
        ("SELECT CAST(name AS INT64) AS n FROM records", "the query failed: ConversionException"),
        ("SELECT ERROR(name) AS n FROM records", "the query failed: InvalidInputException"),
        ("SELECT id FROM records; SELECT 1", "the query is not one SELECT"),
        ("DROP TABLE records", "the query is not one SELECT"),
        ("SELECT FARM_FINGERPRINT(REPEAT(name, 3)) AS f FROM records", "longer than 63 bytes"),
    ],
)
def test_a_failed_query_tells_others_nothing_of_a_row(opened: Opener, sql: str, disclosed: str) -> None:
    with pytest.raises(BadDataError) as caught:
        opened(RECORDS).read(sql)
    assert disclosed in caught.value.disclosed
    assert "Ada" not in caught.value.disclosed
    assert "\n" not in str(caught.value) + caught.value.disclosed
    chained = caught.value.__cause__ or (not caught.value.__suppress_context__ and caught.value.__context__)
    assert not chained, "DuckDB's own error quotes rows and would be printed with the trace"


def test_a_name_that_only_the_warehouse_knows_is_not_disclosed(opened: Opener) -> None:
    with pytest.raises(BadDataError) as caught:
        opened(RECORDS).read("SELECT nam FROM records")
    assert '"name"' in str(caught.value)  # DuckDB suggests what exists
    assert caught.value.disclosed == "the query failed: there is no table or column 'nam'"


def test_a_name_in_the_definition_of_a_view_is_not_disclosed(tmp_path: Path) -> None:
    uri = write("duckdb", RECORDS, tmp_path)
    with duckdb.connect(uri) as connection:
        connection.execute("CREATE VIEW ward_view AS SELECT ward FROM records")
        connection.execute("ALTER TABLE records RENAME TO oncology_trial")
    with contextlib.closing(open_source("duckdb", uri)) as source, pytest.raises(BadDataError) as caught:
        source.read("SELECT ward FROM ward_view")
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
        opened(RECORDS).read(sql.format(other=other, folder=tmp_path))


def test_another_process_can_read_the_same_warehouse_at_the_same_time(tmp_path: Path) -> None:
    uri = write("duckdb", RECORDS, tmp_path)
    program = (
        "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).sql('FROM records').shape)"
    )
    with contextlib.closing(open_source("duckdb", uri)):
        answer = subprocess.run(
            [sys.executable, "-c", program, uri], capture_output=True, text=True, timeout=60, check=True
        )
    assert answer.stdout.strip() == "(4, 3)"


def test_reading_leaves_the_folder_as_it_was(opened: Opener, tmp_path: Path) -> None:
    source = opened(RECORDS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    source.read("SELECT ward FROM records ORDER BY id")
    source.close()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_warehouse_is_unreachable(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    with pytest.raises(SourceUnreachableError) as caught:
        open_source(kind, "warehouses/gone.file")
    assert str(tmp_path / "warehouses" / "gone.file") in str(caught.value)
    assert caught.value.disclosed == "the warehouse is not there"


@pytest.mark.parametrize("kind", KINDS)
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
    assert source.read("SELECT COUNT(*) AS n FROM records").to_pylist() == [{"n": 4}]
    source.close()


def test_unknown_kinds_and_remote_paths_are_refused() -> None:
    with pytest.raises(UsageError, match="'oracle': use duckdb or parquet"):
        open_source("oracle", "x")
    with pytest.raises(UsageError, match="s3://"):
        open_source("parquet", "s3://bucket/x.parquet")
