from __future__ import annotations

import contextlib
import functools
import itertools
import random
import string
from pathlib import Path
from typing import Any

import duckdb
import farmhash
import pyarrow as pa
import pytest

from components.data_processing.record_ingestion import sorted_rows
from components.data_processing.record_ingestion.extraction import extract
from components.data_processing.record_ingestion.row_shards import cut, rows_digest, to_parquet
from components.data_processing.sources import open_source
from components.errors import BadDataError, UsageError

CLASSES = ("heart", "lung")
_numbers = itertools.count()


def records(rows: int = 400, seed: int = 1) -> list[dict[str, Any]]:
    generator = random.Random(seed)
    alphabet = string.ascii_letters + string.digits + ".-é日"
    keys = ["".join(generator.choices(alphabet, k=generator.randint(0, 20))) for _ in range(rows // 3)]
    return [
        {
            "notes": f"note {generator.randint(0, 99)}",
            "age": generator.randint(0, 99),
            "context": '{"ward": "4B"}',
            "chapter": generator.choice(CLASSES),
            "category": generator.choice(keys),
            "patient_id": f"patient-{number}",
        }
        for number, _ in enumerate(range(rows))
    ]


def warehouse(folder: Path, rows: list[dict[str, Any]], context_type: str = "JSON") -> str:
    path = folder / f"warehouse-{next(_numbers)}.duckdb"
    with duckdb.connect(path) as connection:
        connection.register("incoming", pa.Table.from_pylist(rows))
        connection.execute(
            f"CREATE TABLE records AS SELECT * REPLACE (context::{context_type} AS context) FROM incoming"
        )
    return str(path)


def ingest(uri: str, sql: str = "SELECT * FROM records", **changes: Any) -> pa.Table:
    arguments: dict[str, Any] = {
        "template_columns": ["notes", "age", "context"],
        "label_column": "chapter",
        "split_column": "category",
        "test_fraction": 0.2,
        "classes": CLASSES,
    }
    with contextlib.closing(open_source("duckdb", uri)) as source:
        rows = extract(source, sql, **(arguments | changes)).rows
    with contextlib.closing(rows):
        return pa.concat_tables(cut(rows.ordered()))


def is_test_row(key: str, thousandths: int) -> bool:
    """ABS(MOD(FARM_FINGERPRINT(key), 1000)) < thousandths, written apart from the product."""
    unsigned: int = farmhash.fingerprint64(key)
    signed = unsigned - 2**64 if unsigned >= 2**63 else unsigned
    return abs(signed) % 1000 < thousandths


@pytest.mark.parametrize("thousandths", [1, 200, 500, 999])
def test_the_split_in_sql_equals_farmhash_in_python(tmp_path: Path, thousandths: int) -> None:
    rows = records(1200)
    table = ingest(
        warehouse(tmp_path, rows),
        template_columns=["patient_id"],
        test_fraction=thousandths / 1000,
        classes=CLASSES,
    )
    split = dict(zip(*(table.column(name).to_pylist() for name in ("patient_id", "is_test")), strict=True))
    assert split == {row["patient_id"]: is_test_row(row["category"], thousandths) for row in rows}
    assert 0 < sum(split.values()) < len(rows) or thousandths == 1


def test_only_texts_label_and_split_leave_the_warehouse(tmp_path: Path) -> None:
    table = ingest(warehouse(tmp_path, records()))
    assert table.schema == pa.schema(
        {
            "notes": pa.string(),
            "age": pa.string(),
            "context": pa.string(),
            "label": pa.string(),
            "is_test": pa.bool_(),
        }
    )
    content = to_parquet(table)
    assert b"patient" not in content
    assert b"category" not in content
    assert set(table.column("context").to_pylist()) == {'{"ward": "4B"}'}


def test_rows_are_those_of_the_warehouse(tmp_path: Path) -> None:
    rows = records()
    table = ingest(warehouse(tmp_path, rows), "SELECT * FROM records WHERE age >= 18")
    expected = sorted(
        (r["notes"], str(r["age"]), r["context"], r["chapter"], is_test_row(r["category"], 200))
        for r in rows
        if r["age"] >= 18
    )
    assert [tuple(row.values()) for row in table.to_pylist()] == expected


@pytest.mark.parametrize("context_type", ["JSON", "VARCHAR"])
def test_the_order_of_a_warehouse_does_not_show(tmp_path: Path, context_type: str) -> None:
    rows = records()
    shuffled = random.Random(2).sample(rows, len(rows))
    tables = [ingest(warehouse(tmp_path, order, context_type)) for order in (rows, shuffled)]
    assert rows_digest(tables[0]) == rows_digest(tables[1])
    assert to_parquet(tables[0]) == to_parquet(tables[1])


def test_rows_that_do_not_fit_into_memory_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty thousand rows in runs of one batch and shards of a thousand rows or so."""
    uri = warehouse(tmp_path, records(20_000))
    whole = ingest(uri)
    limits = {"run_bytes": 100_000, "block_bytes": 5_000}
    monkeypatch.setattr(
        "components.data_processing.record_ingestion.extraction.RowSorter",
        functools.partial(sorted_rows.RowSorter, **limits),
    )
    assert ingest(uri).equals(whole)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT * FROM records WHERE FALSE", 0),
        ("SELECT * REPLACE ('1footrue' AS category) FROM records", 400),
    ],
)
def test_where_training_rows_are_not_required_there_may_be_none(tmp_path: Path, sql: str, rows: int) -> None:
    uri = warehouse(tmp_path, records())
    table = ingest(uri, sql, test_fraction=0.712, training_rows_required=False)
    assert table.num_rows == rows
    assert table.schema == ingest(uri).schema
    assert False not in table.column("is_test").to_pylist()


def test_a_fault_is_counted_over_all_rows_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that come after the fault are counted, but no longer put aside."""
    rows = [
        row | {"chapter": "skin" if n % 2 == 0 else row["chapter"]} for n, row in enumerate(records(9000))
    ]
    kept: list[int] = []

    class Counting(sorted_rows.RowSorter):
        def add(self, rows: pa.RecordBatch) -> None:
            kept.append(rows.num_rows)
            super().add(rows)

    monkeypatch.setattr("components.data_processing.record_ingestion.extraction.RowSorter", Counting)
    with pytest.raises(BadDataError, match=r"label 'skin' in column 'chapter' \(4500 rows\)"):
        ingest(warehouse(tmp_path, rows))
    assert kept == []


def test_enum_labels_and_upper_case_names_are_as_good(tmp_path: Path) -> None:
    uri = warehouse(tmp_path, records())
    sql = "SELECT notes AS NOTES, age, context, chapter AS Chapter, category FROM records"
    with duckdb.connect(uri) as connection:
        connection.execute("CREATE TYPE chapters AS ENUM ('heart', 'lung')")
        connection.execute("ALTER TABLE records ALTER chapter TYPE chapters")
    assert rows_digest(ingest(uri, sql)) == rows_digest(ingest(uri))


@pytest.mark.parametrize(
    ("sql", "disclosed"),
    [
        ("SELECT * FROM records WHERE FALSE", "the query returned no rows"),
        ("SELECT * EXCEPT (notes) FROM records", "the query returns no column 'notes'"),
        ("SELECT * EXCEPT (category) FROM records", "the query returns no column 'category'"),
        ("SELECT * FROM lost", "the query failed: there is no table or column 'lost'"),
        ("SELECT * FROM records; DROP TABLE records", "the query is not one SELECT"),
        ("DROP TABLE records", "the query is not one SELECT"),
        (
            "SELECT * REPLACE (IF(age > 50, NULL, chapter) AS chapter) FROM records",
            "column 'chapter' is NULL in some rows",
        ),
        (
            "SELECT * REPLACE (IF(age > 50, NULL, category) AS category) FROM records",
            "the split column is NULL in some rows",
        ),
        ("SELECT * REPLACE ('skin' AS chapter) FROM records", "a label is not in task.classes"),
        ("SELECT * REPLACE ('1footrue' AS category) FROM records", "there are no training rows"),
        ("SELECT * REPLACE (age / 3 AS category) FROM records", "column 'category' has the wrong type"),
        (
            "SELECT * REPLACE (REPEAT(patient_id, 9) AS category) FROM records",
            "a FARM_FINGERPRINT key is longer than 63 bytes",
        ),
    ],
)
def test_records_that_break_the_contract_stop_the_site(tmp_path: Path, sql: str, disclosed: str) -> None:
    uri = warehouse(tmp_path, records())
    # 1footrue falls into bucket 711 of 1000 by the value in BigQuery's documentation.
    with pytest.raises(BadDataError) as caught:
        ingest(uri, sql, test_fraction=0.712)
    assert caught.value.disclosed == disclosed
    assert "patient-" not in caught.value.disclosed
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * REPLACE (IF(age > 50, NULL, chapter) AS chapter) FROM records",
        "SELECT * REPLACE (IF(age > 50, NULL, notes) AS notes) FROM records",
        "SELECT * REPLACE (IF(age > 50, NULL, category) AS category) FROM records",
        "SELECT * REPLACE ('skin' AS chapter) FROM records",
    ],
)
def test_under_an_epsilon_what_rows_break_is_told_without_a_word(tmp_path: Path, sql: str) -> None:
    uri = warehouse(tmp_path, records())
    with pytest.raises(BadDataError, match=r"NULL|skin") as caught:
        ingest(uri, sql, training_rows_required=False)
    assert caught.value.disclosed == ""


def test_a_hostile_value_is_only_a_value(tmp_path: Path) -> None:
    hostile = "'; DROP TABLE records; --\n{notes} \x00 \x1b[31m"
    rows = [row | {"notes": hostile} for row in records(20)]
    uri = warehouse(tmp_path, rows)
    assert set(ingest(uri).column("notes").to_pylist()) == {hostile}
    with pytest.raises(BadDataError, match="DROP TABLE") as caught:
        ingest(uri, template_columns=["age"], label_column="notes")
    assert caught.value.disclosed == "a label is not in task.classes"
    assert "\n" not in str(caught.value)
    assert ingest(uri).num_rows == 20


def test_arguments_of_the_federation_file_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="also a text column"):
        ingest(warehouse(tmp_path, records(3)), template_columns=["chapter"])
