"""At most so many rows of one patient: which, of whom, and what is kept of his name."""

from __future__ import annotations

import contextlib
import functools
import random
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.privacy_unit import ReadUnit
from components.data_processing.query import IS_TEST, UNIT
from components.data_processing.record_ingestion import sorted_rows
from components.data_processing.record_ingestion.extraction import extract
from components.data_processing.record_ingestion.row_shards import cut, rows_digest, to_parquet
from components.data_processing.record_ingestion.unit_rows import UnitRows, unit_numbers
from components.data_processing.sources import open_source
from components.errors import BadDataError, UsageError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
CLASSES = ("heart", "lung")
MOST = 8
Record = dict[str, Any]


def visits(patients: int = 40, seed: int = 1) -> list[Record]:
    """Patients of 1 to 50 visits, few of whom have many."""
    chance = random.Random(seed)
    found = []
    for number in range(patients):
        for visit in range(min(50, round(50 / (1 + number % 20)))):
            found.append(
                {
                    "note": f"note {visit} of {chance.randint(0, 9999)}",
                    "organ": chance.choice(CLASSES),
                    "category": f"C{chance.randint(0, 40)}",
                    "patient": f"Quastenberg-{number:03d}",
                    "number": number,
                    "born": date(1950, 1, 1) + timedelta(days=number),
                }
            )
    return found


def warehouse(folder: Path, records: list[Record]) -> str:
    path = folder / f"{len(list(folder.iterdir()))}.duckdb"
    with duckdb.connect(path) as connection:
        connection.register("incoming", pa.Table.from_pylist(records))
        connection.execute("CREATE TABLE visits AS SELECT * FROM incoming")
    return str(path)


def counted(
    uri: str,
    *,
    most: int = MOST,
    column: str = "patient",
    clipped: bool = True,
    key: Ed25519PrivateKey = KEY,
    sql: str = "SELECT * FROM visits",
    **changes: Any,
) -> pa.Table:
    arguments: dict[str, Any] = {
        "template_columns": ["note"],
        "label_column": "organ",
        "split_column": "category",
        "test_fraction": 0.3,
        "classes": CLASSES,
        "training_rows_required": False,
        "units": UnitRows(ReadUnit(column=column, rows=most, clipped=clipped), key) if most else None,
    }
    with contextlib.closing(open_source("duckdb", uri)) as source:
        extraction = extract(source, sql, **(arguments | changes))
    with contextlib.closing(extraction.rows):
        return pa.concat_tables(cut(extraction.ordered()))


def by_unit(table: pa.Table) -> dict[str, list[tuple[Any, ...]]]:
    """Notes, labels and split of the rows of each unit, sorted."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in table.to_pylist():
        found.setdefault(row.pop(UNIT), []).append(tuple(row.values()))
    return {unit: sorted(rows) for unit, rows in found.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warehouses")


@pytest.fixture(scope="module")
def all_rows(folder: Path) -> pa.Table:
    """Of everybody, as they are without a unit."""
    return counted(warehouse(folder, visits()), most=0)


@pytest.mark.parametrize("most", [1, MOST, 49, 50])
def test_of_every_patient_so_many_rows_are_kept_of_either_split(
    folder: Path, all_rows: pa.Table, most: int
) -> None:
    notes = {row["note"]: row["patient"] for row in visits()}
    expected: Counter[tuple[str, bool]] = Counter()
    for row in all_rows.to_pylist():
        expected[notes[row["note"]], row[IS_TEST]] += 1
    table = counted(warehouse(folder, visits()), most=most)
    found: Counter[tuple[str, bool]] = Counter()
    units: dict[str, set[str]] = {}
    for row in table.to_pylist():
        found[notes[row["note"]], row[IS_TEST]] += 1
        units.setdefault(row[UNIT], set()).add(notes[row["note"]])
    assert found == {each: min(count, most) for each, count in expected.items()}
    assert all(len(names) == 1 for names in units.values()), "one digest, one patient"
    assert len(units) == 40


def test_the_order_of_the_warehouse_does_not_show(folder: Path) -> None:
    records = visits()
    shuffled = random.Random(2).sample(records, len(records))
    first, second = (counted(warehouse(folder, each)) for each in (records, shuffled))
    assert rows_digest(first) == rows_digest(second)
    assert to_parquet(first) == to_parquet(second)


def test_the_rows_of_others_do_not_show(folder: Path) -> None:
    """A patient with 50 visits more or less: the others keep the same rows, in the same order."""
    whole = visits()
    without = [row for row in whole if row["patient"] != "Quastenberg-000"]
    tables = [counted(warehouse(folder, each)) for each in (whole, without)]
    both = set(tables[1].column(UNIT).to_pylist())
    kept = tables[0].filter(pa.array([unit in both for unit in tables[0].column(UNIT).to_pylist()]))
    assert kept.combine_chunks().equals(tables[1].combine_chunks())
    (gone,) = set(by_unit(tables[0])) - both
    assert 8 <= len(by_unit(tables[0])[gone]) <= 16


def test_which_rows_are_kept_is_the_keys_choice(folder: Path) -> None:
    """And no patient's first, last or least rows."""
    uri = warehouse(folder, visits())
    chosen = [{row["note"] for row in counted(uri, key=key).to_pylist()} for key in (KEY, OTHER_KEY)]
    assert len(chosen[0]) == len(chosen[1])
    assert len(chosen[0] - chosen[1]) > 20, "most patients have so few rows that there is no choice"
    notes = sorted(row["note"] for row in visits() if row["patient"] == "Quastenberg-000")
    places = [place for place, note in enumerate(notes) if note in chosen[0]]
    assert max(places) > 25
    assert min(places) < 25


def test_rows_that_are_alike_are_rows_all_the_same(folder: Path) -> None:
    record = visits(1)[0]
    table = counted(warehouse(folder, [record] * 50))
    assert table.num_rows == MOST


def test_rows_that_do_not_fit_into_memory_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of one batch, and blocks that part a patient's rows."""
    uri = warehouse(folder, visits(2000))
    whole = counted(uri)
    monkeypatch.setattr(
        "components.data_processing.record_ingestion.extraction.RowSorter",
        functools.partial(sorted_rows.RowSorter, run_bytes=50_000, block_bytes=500),
    )
    assert counted(uri).equals(whole)
    assert max(len(rows) for rows in by_unit(whole).values()) <= 2 * MOST


@pytest.mark.parametrize("column", ["patient", "number", "born", "PATIENT"])
def test_strings_integers_and_dates_name_a_unit(folder: Path, column: str) -> None:
    uri = warehouse(folder, visits())
    expected = sorted(map(len, by_unit(counted(uri)).values()))
    assert sorted(map(len, by_unit(counted(uri, column=column)).values())) == expected


def test_nothing_that_names_a_unit_is_kept(folder: Path) -> None:
    content = to_parquet(counted(uri := warehouse(folder, visits())))
    table = counted(uri)
    assert table.column_names == ["note", "label", IS_TEST, UNIT]
    for row in visits():
        assert row["patient"].encode() not in content
    assert all(len(unit) == 16 and int(unit, 16) >= 0 for unit in table.column(UNIT).to_pylist())
    others = counted(uri, key=OTHER_KEY)
    assert not set(table.column(UNIT).to_pylist()) & set(others.column(UNIT).to_pylist())


def test_where_rows_are_only_counted_nothing_of_the_unit_is_kept(folder: Path, all_rows: pa.Table) -> None:
    """A charter that prices rows: the canonical form is that of before, and the cap holds."""
    uri = warehouse(folder, visits())
    table = counted(uri, clipped=False)
    assert table.schema == all_rows.schema
    assert table.num_rows == counted(uri).num_rows < all_rows.num_rows
    enough = counted(uri, clipped=False, most=50)
    assert sorted(map(str, enough.to_pylist())) == sorted(map(str, all_rows.to_pylist()))


def test_without_a_unit_rows_are_what_they_were(all_rows: pa.Table) -> None:
    """The digest of these rows as the version before units made it."""
    assert rows_digest(all_rows) == "006b7bedbb4efc23189d2b462d663c06cc8bb66e6c6854a6aa3d2940e7abb68d"


def test_digests_are_numbers_that_tell_units_apart() -> None:
    digests = ["0" * 16, "f" * 16, "80" + "0" * 14, "7f" + "f" * 14]
    assert unit_numbers(digests) == [0, -1, -(2**63), 2**63 - 1]


class TestRefusals:
    def refused(self, uri: str, **changes: Any) -> BadDataError:
        with pytest.raises(BadDataError) as caught:
            counted(uri, **changes)
        assert len(str(caught.value).splitlines()) == 1
        assert "Quastenberg" not in str(caught.value)
        return caught.value

    def test_a_column_that_is_not_there(self, folder: Path) -> None:
        sql = "SELECT note, organ, category FROM visits"
        told = self.refused(uri := warehouse(folder, visits(3)), sql=sql)
        assert str(told) == (
            "the query returns no column 'patient', by which the site's policy counts rows (it returns note, "
            "organ, category): select it in the site's sql, or correct unit under privacy in the policy"
        )
        assert told.disclosed == "column 'patient' is missing"
        told = self.refused(uri, sql=sql, clipped=False)
        assert told.disclosed == "the column of the site's privacy unit is missing", (
            "only the policy names it"
        )

    def test_a_column_whose_text_depends_on_the_engine(self, folder: Path) -> None:
        sql = "SELECT * REPLACE (number / 3 AS patient) FROM visits"
        told = self.refused(warehouse(folder, visits(3)), sql=sql)
        assert "column 'patient' is of type double: a unit of privacy must be strings, integers" in str(told)

    def test_a_row_of_nobody_is_bad_data_and_told_without_a_word(self, folder: Path) -> None:
        sql = "SELECT * REPLACE (IF(number = 1, NULL, patient) AS patient) FROM visits"
        told = self.refused(warehouse(folder, visits(3)), sql=sql)
        assert "column 'patient' is NULL in 25 of 92 rows" in str(told)
        assert told.disclosed == ""

    def test_a_text_column_of_the_name_that_is_reserved(self, folder: Path) -> None:
        sql = "SELECT *, note AS privacy_unit FROM visits"
        uri = warehouse(folder, visits(3))
        with pytest.raises(UsageError, match="column 'privacy_unit' is reserved"):
            counted(uri, sql=sql, template_columns=["privacy_unit"])
        assert counted(uri, sql=sql, template_columns=["privacy_unit"], most=0).num_rows == 92
