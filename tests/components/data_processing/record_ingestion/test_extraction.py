from __future__ import annotations

import itertools
import random
import string
from pathlib import Path
from typing import Any

import duckdb
import farmhash
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.record_ingestion.extraction import (
    extract,
    from_parquet,
    rows_digest,
    to_parquet,
)
from components.data_processing.sources import open_source
from components.errors import BadDataError, IntegrityError, UsageError

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
    source = open_source("duckdb", uri)
    try:
        return extract(source, sql, **(arguments | changes))
    finally:
        source.close()


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


def table_of(rows: list[tuple[str, str, bool]]) -> pa.Table:
    return pa.table(
        {
            "a": pa.array([row[0] for row in rows], pa.string()),
            "label": pa.array([row[1] for row in rows], pa.string()),
            "is_test": pa.array([row[2] for row in rows], pa.bool_()),
        }
    )


Rows = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4), st.booleans()), max_size=6)


@given(Rows, Rows)
def test_equal_digests_are_equal_tables(
    one: list[tuple[str, str, bool]], other: list[tuple[str, str, bool]]
) -> None:
    assert (rows_digest(table_of(one)) == rows_digest(table_of(other))) == (one == other)


@given(Rows.filter(bool), st.data())
def test_any_changed_cell_changes_the_digest(rows: list[tuple[str, str, bool]], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(rows) - 1))
    text, label, is_test = rows[row]
    change = data.draw(
        st.sampled_from(
            [(text + "x", label, is_test), (text, label + "x", is_test), (text, label, not is_test)]
        )
    )
    changed = [*rows[:row], change, *rows[row + 1 :]]
    assert rows_digest(table_of(changed)) != rows_digest(table_of(rows))


@given(Rows, st.integers(0, 6))
def test_chunks_and_parquet_do_not_change_the_digest(rows: list[tuple[str, str, bool]], cut: int) -> None:
    table = table_of(rows)
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    assert rows_digest(chunked) == rows_digest(table)
    assert rows_digest(from_parquet(to_parquet(chunked))) == rows_digest(table)
    assert from_parquet(to_parquet(table)).equals(table)


def test_text_that_moves_to_the_next_cell_changes_the_digest() -> None:
    one = table_of([("ab", "c", True), ("d", "", True)])
    for other in ([("a", "bc", True), ("d", "", True)], [("ab", "c", True), ("", "d", True)]):
        assert rows_digest(table_of(other)) != rows_digest(one)
    assert rows_digest(one.rename_columns(["b", "label", "is_test"])) != rows_digest(one)
    assert rows_digest(one.select(["label", "a", "is_test"])) != rows_digest(one)


def test_the_digest_stays_what_it_is() -> None:
    """Caches and manifests hold this digest: a change here makes every site compute its features anew."""
    import hashlib

    def number(value: int) -> bytes:
        return value.to_bytes(8, "little")

    written = (
        b"crosscloud rows 1\0" + number(3) + number(2)
        + number(1) + b"a" + b"s" + number(2) + number(0) + "é".encode()
        + number(5) + b"label" + b"s" + number(1) + number(2) + b"xyz"
        + number(7) + b"is_test" + b"b" + b"\x00\x01"
    )  # fmt: skip
    assert rows_digest(table_of([("é", "x", False), ("", "yz", True)])) == hashlib.sha256(written).hexdigest()


def test_tables_that_are_not_canonical_have_no_digest() -> None:
    with pytest.raises(ValueError, match="NULL"):
        rows_digest(pa.table({"a": ["x", None]}))
    with pytest.raises(ValueError, match="int64"):
        rows_digest(pa.table({"a": [1]}))


def test_broken_parquet_is_an_integrity_error() -> None:
    content = to_parquet(table_of([("a", "b", True)]))
    for broken in (b"", b"PAR1", content[:-1], content[10:]):
        with pytest.raises(IntegrityError, match="not a Parquet file"):
            from_parquet(broken)
