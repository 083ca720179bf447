"""The `ingest` step: rows once a ticket, bare of everything the task does not name."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from components.agreement.workplace import Workplace
from components.artifacts.stores import crosscloud_home, key_of
from components.data_processing.record_ingestion.extraction import rows_digest
from components.data_processing.record_ingestion.ingestion import RecordSpec, ingest
from components.errors import BadDataError, SiteError, SourceUnreachableError
from components.execution.outcome import Outcome
from tests.components.aggregation.three_sites import ThreeSites

PATIENTS = ("Ottilie Quastenberg", "Balduin Zwirnhagen", "Roswitha Uhlenkrieg")
CLASSES = ("heart", "lung")
WAREHOUSE = "warehouses/visits.duckdb"
SPEC = RecordSpec(
    source_kind="duckdb",
    source_uri=WAREHOUSE,
    sql="SELECT * FROM visits",
    template="{note}",
    label_column="organ",
    split_column="category",
    test_fraction=0.3,
    classes=CLASSES,
)


def fill(rows: int) -> Path:
    """Visits with what must not leave the warehouse: patient, category, number."""
    path = crosscloud_home() / WAREHOUSE
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE visits (id BIGINT, patient VARCHAR, category VARCHAR, note VARCHAR, organ VARCHAR)"
        )
        records = [
            (k, PATIENTS[k % 3], f"category-{k % 37}", f"note {k} of a visit", CLASSES[k % 2])
            for k in range(rows)
        ]
        connection.executemany("INSERT INTO visits VALUES (?, ?, ?, ?, ?)", records)
    return path


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    fill(100)
    return ThreeSites.start()


def content_of(place: Workplace, outcome: Outcome) -> bytes:
    return place.store.read(key_of(place.store, outcome.reference))


def everything_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_rows_are_those_of_the_query(three: ThreeSites) -> None:
    place = three.place("alpha")
    table = pq.read_table(io.BytesIO(content_of(place, ingest(place, SPEC))))
    assert table.column_names == ["note", "label", "is_test"]
    found = {(row["note"], row["label"]) for row in table.to_pylist()}
    assert found == {(f"note {k} of a visit", CLASSES[k % 2]) for k in range(100)}
    assert 0 < sum(table.column("is_test").to_pylist()) < 100


def test_the_manifest_counts_nothing(three: ThreeSites) -> None:
    place = three.place("alpha")
    outcome = ingest(place, SPEC)
    assert outcome.manifest == {
        "uri": outcome.reference,
        "digest": Path(outcome.reference).stem,
        "schema": {"note": "string", "label": "string", "is_test": "bool"},
        "padded_size": outcome.manifest["padded_size"],
    }
    assert outcome.metrics == {}
    assert outcome.bytes_sent == 0


@pytest.mark.parametrize("rows", [3, 100, 700])
def test_the_size_is_padded_to_the_next_power_of_two(three: ThreeSites, rows: int) -> None:
    fill(rows)
    place = three.place("alpha")
    outcome = ingest(place, SPEC)
    padded, size = outcome.manifest["padded_size"], len(content_of(place, outcome))
    assert padded & (padded - 1) == 0
    assert padded / 2 < size <= padded


def test_the_digest_is_the_sites_own(three: ThreeSites) -> None:
    """Others who guess the rows cannot confirm it: neither a plain digest nor another site's is equal."""
    outcomes = {site: ingest(three.place(site), SPEC) for site in ("alpha", "beta")}
    place = three.place("alpha")
    content = content_of(place, outcomes["alpha"])
    assert content == content_of(three.place("beta"), outcomes["beta"])
    assert outcomes["alpha"].manifest["digest"] != outcomes["beta"].manifest["digest"]
    assert outcomes["alpha"].manifest["digest"] != rows_digest(pq.read_table(io.BytesIO(content)))


def test_nothing_but_the_tasks_columns_leaves_the_warehouse(three: ThreeSites) -> None:
    place = three.place("alpha")
    content = content_of(place, ingest(place, SPEC))
    table = pq.read_table(io.BytesIO(content))
    plain = io.BytesIO()
    pq.write_table(table, plain, compression="none", use_dictionary=False)
    assert b"note 42 of a visit" in plain.getvalue()  # such a search would find what is there
    kept = [path.read_bytes() for path in everything_below(three.store_folder("alpha"))]
    assert content in kept
    for secret in (*PATIENTS, "patient", "category"):
        assert secret.encode() not in plain.getvalue()
        assert not any(secret.encode() in found for found in kept)


def test_nothing_goes_to_the_exchange(three: ThreeSites) -> None:
    published = three.exchange.keys()
    ingest(three.place("alpha"), SPEC)
    assert three.exchange.keys() == published


def test_rows_are_read_once_a_ticket(three: ThreeSites) -> None:
    place = three.place("alpha")
    first = ingest(place, SPEC)
    files = everything_below(three.store_folder("alpha"))
    fill(50)
    assert ingest(place, SPEC) == first
    (crosscloud_home() / WAREHOUSE).unlink()
    assert ingest(place, SPEC) == first
    assert everything_below(three.store_folder("alpha")) == files


def test_the_next_ticket_reads_anew_and_equal_rows_are_kept_once(three: ThreeSites) -> None:
    first = ingest(three.place("alpha"), SPEC)
    three.committed()
    second_round = three.next_round()
    assert ingest(second_round.place("alpha"), SPEC) == first
    assert len(list(three.store_folder("alpha").glob("rows/*"))) == 1
    second_round.committed()
    fill(50)
    third = ingest(second_round.next_round().place("alpha"), SPEC)
    assert third.reference != first.reference
    place = three.place("alpha")
    assert pq.read_table(io.BytesIO(content_of(place, third))).num_rows == 50


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"source_uri": "warehouses/none.duckdb"}, SourceUnreachableError),
        ({"sql": "SELECT nothing FROM nowhere"}, BadDataError),
        ({"sql": "not a query"}, BadDataError),
        ({"sql": "SELECT * FROM visits WHERE id < 0"}, BadDataError),
        ({"sql": "SELECT note, organ FROM visits"}, BadDataError),
        ({"classes": ("heart", "skin")}, BadDataError),
        (
            {"sql": "SELECT NULLIF(note, 'note 7 of a visit') AS note, organ, category FROM visits"},
            BadDataError,
        ),
    ],
    ids=["no warehouse", "no table", "no query", "no rows", "no column", "unknown label", "null"],
)
def test_what_fails_leaves_nothing_behind(
    three: ThreeSites, fault: dict[str, object], error: type[SiteError]
) -> None:
    place = three.place("alpha")
    with pytest.raises(error) as caught:
        ingest(place, replace(SPEC, **fault))  # type: ignore[arg-type]
    assert not any(name in caught.value.disclosed for name in (*PATIENTS, "note 7"))
    assert everything_below(three.store_folder("alpha")) == []
    assert ingest(place, SPEC).reference  # mended, the same ticket goes on


def test_the_pointer_of_a_ticket_names_the_rows(three: ThreeSites) -> None:
    place = three.place("alpha")
    outcome = ingest(place, SPEC)
    pointer = json.loads(place.store.read(f"ingested/{place.ticket.digest}.json"))
    assert pointer == outcome.manifest
