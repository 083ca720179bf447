"""The `ingest` step: rows once a ticket, bare of everything the task does not name."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from components.agreement.workplace import Workplace
from components.artifacts.stores import crosscloud_home, key_of, open_store
from components.data_processing.record_ingestion.extraction import rows_digest
from components.data_processing.record_ingestion.ingestion import RecordSpec, ingest
from components.errors import (
    BadDataError,
    PrivacyBudgetExceededError,
    RefusedError,
    SiteError,
    SourceUnreachableError,
)
from components.execution.outcome import Outcome
from components.privacy.charging import open_ledger
from tests.components.aggregation.three_sites import NOISE, ThreeSites, privacy_policy, set_policy
from tests.components.rounds.walks import walk

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
        connection.execute(
            "INSERT INTO visits SELECT k, ?[1 + k % 3], 'category-' || k % 37, "
            "'note ' || k || ' of a visit', ?[1 + k % 2] FROM range(?) AS numbers(k)",
            [list(PATIENTS), list(CLASSES), rows],
        )
    return path


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    three = walk("open", "none").three
    fill(100)
    admit(three, SPEC.sql)
    return three


def admit(three: ThreeSites, *queries: str, **rules: Any) -> None:
    """Writes policies that admit these queries."""
    digests = tuple(hashlib.sha256(query.encode()).hexdigest() for query in queries)
    for site in three.sites:
        set_policy(
            "small",
            site,
            **{"charter": three.charter.digest, "protections": ("none",), "queries": digests, **rules},
        )


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
    admit(three, SPEC.sql, str(fault.get("sql", "")))
    place = three.place("alpha")
    with pytest.raises(error) as caught:
        ingest(place, replace(SPEC, **fault))  # type: ignore[arg-type]
    assert not any(name in caught.value.disclosed for name in (*PATIENTS, "note 7"))
    assert place.store.keys() == ["tickets/000000001-000001.json"]
    assert ingest(place, SPEC).reference  # mended, the same ticket goes on


class TestWhatTheSiteDecides:
    """Before a row is read, and by its own policy: the coordinator's pipeline can ask for anything."""

    def is_refused(self, three: ThreeSites, rule: str, spec: RecordSpec = SPEC) -> None:
        """The warehouse is not so much as looked for."""
        (crosscloud_home() / WAREHOUSE).unlink()
        place = three.place("alpha")
        before = place.store.keys()
        with pytest.raises(RefusedError, match=rule) as caught:
            ingest(place, spec)
        assert caught.value.disclosed == str(caught.value)
        assert place.store.keys() == before

    @pytest.mark.parametrize(
        "sql",
        ["SELECT * FROM patients", "SELECT *  FROM visits", "select * from visits", "SELECT * FROM visits;"],
    )
    def test_a_query_it_has_not_admitted_is_refused(self, three: ThreeSites, sql: str) -> None:
        self.is_refused(three, "is not one the site's policy admits", replace(SPEC, sql=sql))

    def test_a_site_that_admits_none_reads_nothing(self, three: ThreeSites) -> None:
        admit(three)
        self.is_refused(three, "add the digest to 'queries' once they have read it")

    def test_blanks_around_a_query_are_not_part_of_it(self, three: ThreeSites) -> None:
        assert ingest(three.place("alpha"), replace(SPEC, sql=f"\n  {SPEC.sql} \n")).reference

    def test_a_second_ticket_for_the_attempt_is_refused(self, three: ThreeSites) -> None:
        place = three.place("alpha")
        ingest(place, SPEC)
        (crosscloud_home() / WAREHOUSE).unlink()
        other = replace(place, ticket=replace(place.ticket, seed=99))
        with pytest.raises(RefusedError, match="a second ticket was issued for attempt 1 of round 1"):
            ingest(other, SPEC)
        assert place.store.keys("ingested") == [f"ingested/{place.ticket.digest}.json"]

    def test_rounds_beyond_what_the_policy_allows_a_day_are_refused(self, three: ThreeSites) -> None:
        admit(three, SPEC.sql, rounds_a_day=1)
        ingest(three.place("alpha"), SPEC)
        ingest(three.place("alpha"), SPEC)  # the same ticket again costs nothing
        three.exchange.create(f"{three.opened.ticket.folder}/shortfall.json", b"{}")
        self.is_refused(three.next_attempt(), "allows 1 rounds a day and they are used up")

    def test_a_model_that_does_not_follow_from_the_last_receipt_is_refused(self, three: ThreeSites) -> None:
        """A model made for one site would tell about its rows what a sum does not."""
        place = three.place("alpha")
        other = replace(place, ticket=replace(place.ticket, model="0" * 64))
        with pytest.raises(
            RefusedError, match="model of round 1 is not the one that the charter starts from"
        ):
            ingest(other, SPEC)
        assert place.store.keys() == []

    def test_what_it_has_accepted_is_trained_on(self, three: ThreeSites) -> None:
        place = three.place("alpha")
        with pytest.raises(RefusedError, match="has not accepted"):
            place.require_accepted()
        ingest(place, SPEC)
        place.require_accepted()

    def test_a_resumed_round_is_passed_with_a_policy_that_has_changed_since(self, three: ThreeSites) -> None:
        first = ingest(three.place("alpha"), SPEC)
        admit(three, SPEC.sql, "SELECT 1")
        assert ingest(three.place("alpha"), SPEC) == first


class TestPaying:
    """Under a charter with noise a ticket is paid for before a row is read, once."""

    @pytest.fixture
    def noised(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
        monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
        monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
        noised = ThreeSites.start(protection="sealed", privacy=NOISE)
        fill(100)
        self.allow(noised)
        return noised

    def allow(self, noised: ThreeSites, **budget: Any) -> None:
        policy = privacy_policy("small", "alpha", **budget)
        admit(noised, SPEC.sql, protections=("sealed",), privacy=policy)

    def entries(self) -> int:
        return len(open_ledger(privacy_policy("small", "alpha")).entries())

    def test_a_ticket_is_paid_for_once(self, noised: ThreeSites) -> None:
        place = noised.place("alpha")
        first = ingest(place, SPEC)
        assert ingest(place, SPEC) == first
        assert self.entries() == 1
        [entry] = open_ledger(privacy_policy("small", "alpha")).entries()
        assert entry.charge.ticket == place.ticket.digest
        assert not any("rows" in key for key in open_store("small/ledgers/alpha").keys())  # noqa: SIM118

    @pytest.mark.parametrize(
        ("budget", "error", "text"),
        [
            ({"epsilon": 0.5}, PrivacyBudgetExceededError, "would bring epsilon from 0 to"),
            (
                {"least_noise_multiplier": 5.0},
                RefusedError,
                "a noise multiplier of at least 5, round 1 has 3",
            ),
        ],
        ids=["budget", "noise"],
    )
    def test_what_is_refused_never_looks_for_the_warehouse(
        self, noised: ThreeSites, budget: dict[str, float], error: type[RefusedError], text: str
    ) -> None:
        (crosscloud_home() / WAREHOUSE).unlink()
        self.allow(noised, **budget)
        place = noised.place("alpha")
        with pytest.raises(error, match=text) as caught:
            ingest(place, SPEC)
        assert type(caught.value) is error
        assert len(str(caught.value).splitlines()) == 1
        assert self.entries() == 0
        assert place.store.keys() == ["tickets/000000001-000001.json"]
        fill(100)
        self.allow(noised)  # its people raise the budget, or lower their demand: the ticket goes on
        assert ingest(noised.place("alpha"), SPEC).reference
        assert self.entries() == 1

    def test_a_policy_without_a_budget_reads_nothing(self, noised: ThreeSites) -> None:
        (crosscloud_home() / WAREHOUSE).unlink()
        admit(noised, SPEC.sql, protections=("sealed",))
        with pytest.raises(RefusedError, match="the site's policy sets no budget for it"):
            ingest(noised.place("alpha"), SPEC)

    def test_a_budget_under_a_charter_without_noise_reads_nothing(self, three: ThreeSites) -> None:
        (crosscloud_home() / WAREHOUSE).unlink()
        admit(three, SPEC.sql, privacy=privacy_policy("small", "alpha"))
        with pytest.raises(RefusedError, match="asks for differential privacy, the charter has none"):
            ingest(three.place("alpha"), SPEC)

    def test_what_fails_after_the_charge_is_paid_for_and_goes_on_for_nothing(
        self, noised: ThreeSites
    ) -> None:
        (crosscloud_home() / WAREHOUSE).unlink()
        for _ in range(2):
            with pytest.raises(SourceUnreachableError):
                ingest(noised.place("alpha"), SPEC)
        assert self.entries() == 1
        fill(100)
        assert ingest(noised.place("alpha"), SPEC).reference
        assert self.entries() == 1


def test_the_pointer_of_a_ticket_names_the_rows(three: ThreeSites) -> None:
    place = three.place("alpha")
    outcome = ingest(place, SPEC)
    pointer = json.loads(place.store.read(f"ingested/{place.ticket.digest}.json"))
    assert pointer == outcome.manifest
