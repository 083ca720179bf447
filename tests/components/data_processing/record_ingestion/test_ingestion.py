"""The `ingest` step: rows once a ticket, bare of everything the task does not name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.agreement.site_policy import task_digest
from components.artifacts.stores import crosscloud_home, open_store
from components.data_processing.declared_columns import DeclaredColumn
from components.data_processing.record_ingestion.ingestion import (
    RecordSpec,
    declared_columns,
    ingest,
    require_text,
)
from components.data_processing.record_ingestion.row_shards import rows_digest
from components.errors import (
    BadDataError,
    PrivacyBudgetExceededError,
    RefusedError,
    SiteError,
    SourceUnreachableError,
)
from components.privacy.charging import open_ledger
from tests.components.aggregation.three_sites import NOISE, ThreeSites, privacy_policy
from tests.components.data_processing.record_ingestion.visits import (
    CLASSES,
    PATIENTS,
    SPEC,
    WAREHOUSE,
    admit,
    fill,
    rows_of,
    shard_of,
)

OTHER_TASKS: tuple[dict[str, Any], ...] = (
    {"template": "{note} {patient}"},
    {"label_column": "category"},
    {"split_column": "patient"},
    {"test_fraction": 0.301},
    {"classes": ("heart", "lung", "skin")},
    {"columns": (DeclaredColumn(name="patient", type="STRING", allowed_values=PATIENTS[:1]),)},
)


def everything_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_rows_are_those_of_the_query(three: ThreeSites) -> None:
    place = three.place("alpha")
    table = rows_of(place, ingest(place, SPEC))
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
        "masked": dict.fromkeys(("iban", "card", "email", "ip", "ssn", "phone"), 1),
    }
    assert outcome.metrics == {}
    assert outcome.bytes_sent == 0


@pytest.mark.parametrize("rows", [3, 100, 700])
def test_the_size_is_padded_to_the_next_power_of_two(three: ThreeSites, rows: int) -> None:
    fill(rows)
    place = three.place("alpha")
    outcome = ingest(place, SPEC)
    padded, size = outcome.manifest["padded_size"], len(shard_of(place, outcome))
    assert padded & (padded - 1) == 0
    assert padded / 2 < size <= padded


def test_the_digest_is_the_sites_own(three: ThreeSites) -> None:
    """Others who guess the rows cannot confirm it: neither a plain digest nor another site's is equal."""
    outcomes = {site: ingest(three.place(site), SPEC) for site in ("alpha", "beta")}
    place = three.place("alpha")
    assert shard_of(place, outcomes["alpha"]) == shard_of(three.place("beta"), outcomes["beta"])
    assert outcomes["alpha"].manifest["digest"] != outcomes["beta"].manifest["digest"]
    assert outcomes["alpha"].manifest["digest"] != rows_digest(rows_of(place, outcomes["alpha"]))


def test_nothing_but_the_tasks_columns_leaves_the_warehouse(three: ThreeSites) -> None:
    place = three.place("alpha")
    outcome = ingest(place, SPEC)
    content = shard_of(place, outcome)
    sink = pa.BufferOutputStream()
    pq.write_table(rows_of(place, outcome), sink, compression="none", use_dictionary=False)
    plain = sink.getvalue().to_pybytes()
    assert b"note 42 of a visit" in plain  # such a search would find what is there
    folder = three.store_folder("alpha")
    kept = {path.relative_to(folder): path.read_bytes() for path in everything_below(folder)}
    assert content in kept.values()
    statistics = kept.pop(Path("statistics/000000001-000001.json"))
    for secret in (*PATIENTS, "category-1"):
        assert secret.encode() not in plain + statistics
    for secret in (*PATIENTS, "patient", "category"):
        assert secret.encode() not in plain
        assert not any(secret.encode() in found for found in kept.values())
    assert b'"category":"STRING"' in statistics, "the names of columns are remembered"


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
    assert len(list(three.store_folder("alpha").glob("rows/*"))) == 2, "one shard and its index"
    second_round.committed()
    fill(50)
    third = ingest(second_round.next_round().place("alpha"), SPEC)
    assert third.reference != first.reference
    place = three.place("alpha")
    assert rows_of(place, third).num_rows == 50


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
    spec = replace(SPEC, **fault)  # type: ignore[arg-type]
    admit(three, SPEC.sql, spec.sql, tasks=(SPEC.task, spec.task))
    place = three.place("alpha")
    with pytest.raises(error) as caught:
        ingest(place, spec)
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

    @pytest.mark.parametrize("change", OTHER_TASKS, ids=lambda change: next(iter(change)))
    def test_a_task_it_has_not_admitted_is_refused(self, three: ThreeSites, change: dict[str, Any]) -> None:
        """Each would ask something else of every row, under a query that is admitted."""
        self.is_refused(
            three, "the task with digest .* is not one the site's policy", replace(SPEC, **change)
        )

    def test_a_site_that_admits_no_task_reads_nothing(self, three: ThreeSites) -> None:
        admit(three, SPEC.sql, tasks=())
        self.is_refused(three, "add the digest to 'tasks'")

    def test_a_declaration_that_is_not_well_formed_is_refused(self, three: ThreeSites) -> None:
        spec = replace(SPEC, columns=(DeclaredColumn(name="note", type="INT64", allowed_values=("7",)),))
        admit(three, SPEC.sql, task=spec)
        (crosscloud_home() / WAREHOUSE).unlink()
        place = three.place("alpha")
        with pytest.raises(RefusedError, match="only STRING may have them") as caught:
            ingest(place, spec)
        assert caught.value.disclosed == "the columns that the federation declares are not well formed"
        assert place.store.keys() == []

    def test_a_task_that_arrives_as_a_steps_parameters_is_the_one_of_the_file(self) -> None:
        section = {
            "name": "note",
            "type": "STRING",
            "nullable": True,
            "description": "",
            "allowed_values": [],
        }
        spec = replace(SPEC, columns=declared_columns(json.loads(json.dumps([section]))))
        assert spec.task == task_digest(
            template=SPEC.template,
            label_column=SPEC.label_column,
            split_column=SPEC.split_column,
            test_fraction=SPEC.test_fraction,
            classes=SPEC.classes,
            columns=[section],
        )

    def test_a_later_step_is_held_to_the_text_that_was_read(self, three: ThreeSites) -> None:
        place = three.place("alpha")
        read = {"template": SPEC.template, "classes": list(SPEC.classes)}
        with pytest.raises(RefusedError, match="has read no records under this ticket"):
            require_text(place, **read)  # type: ignore[arg-type]
        ingest(place, SPEC)
        require_text(place, **read)  # type: ignore[arg-type]
        for change in ({"template": "{note}."}, {"classes": ["lung", "heart"]}, {"classes": ["heart"]}):
            with pytest.raises(RefusedError, match="for this template and these classes"):
                require_text(place, **(read | change))  # type: ignore[arg-type]

    def test_blanks_around_a_query_are_not_part_of_it(self, three: ThreeSites) -> None:
        assert ingest(three.place("alpha"), replace(SPEC, sql=f"\n  {SPEC.sql} \n")).reference

    def test_a_second_ticket_for_the_attempt_is_refused(self, three: ThreeSites) -> None:
        place = three.place("alpha")
        ingest(place, SPEC)
        (crosscloud_home() / WAREHOUSE).unlink()
        other = replace(place, ticket=replace(place.ticket, seed=99))
        with pytest.raises(RefusedError, match="a second ticket was issued for attempt 1 of round 1"):
            ingest(other, SPEC)
        assert f"ingested/{place.ticket.digest}.json" in place.store.keys("ingested")
        assert not any(other.ticket.digest in key for key in place.store.keys())  # noqa: SIM118

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

    @pytest.mark.parametrize("change", OTHER_TASKS, ids=lambda change: next(iter(change)))
    def test_a_task_that_is_not_admitted_costs_nothing(
        self, noised: ThreeSites, change: dict[str, Any]
    ) -> None:
        place = noised.place("alpha")
        with pytest.raises(RefusedError, match="the task with digest"):
            ingest(place, replace(SPEC, **change))
        assert self.entries() == 0
        assert place.store.keys() == []

    def test_what_rows_break_of_a_declaration_is_not_told_in_words(self, noised: ThreeSites) -> None:
        """One row decides it, and no epsilon is charged for the answer."""
        column = DeclaredColumn(name="note", type="STRING", allowed_values=("note 7 of a visit",))
        spec = replace(SPEC, columns=(column,))
        budget = privacy_policy("small", "alpha")
        admit(noised, spec.sql, task=spec, protections=("sealed",), privacy=budget)
        with pytest.raises(BadDataError, match="column 'note' holds 'note 0 of a visit'") as caught:
            ingest(noised.place("alpha"), spec)
        assert caught.value.disclosed == ""

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

    @pytest.mark.parametrize(("condition", "rows"), [("id < 0", 0), ("category = 'category-9'", 3)])
    def test_having_no_training_rows_is_no_reason_to_be_left_out(
        self, noised: ThreeSites, condition: str, rows: int
    ) -> None:
        """One row would change whether a site is there at all, and no epsilon is charged for that."""
        spec = replace(SPEC, sql=f"SELECT * FROM visits WHERE {condition}")
        noised_policy = privacy_policy("small", "alpha")
        admit(noised, spec.sql, protections=("sealed",), privacy=noised_policy)
        place = noised.place("alpha")
        outcome = ingest(place, spec)
        table = rows_of(place, outcome)
        assert table.num_rows == rows
        assert all(table.column("is_test").to_pylist())
        assert outcome.manifest["schema"] == {"note": "string", "label": "string", "is_test": "bool"}
        assert outcome.manifest.keys() == {"uri", "digest", "schema"}, "no number: one row could change it"
        assert ingest(place, spec) == outcome
        assert self.entries() == 1


@pytest.mark.parametrize("condition", ["id < 0", "category = 'category-9'"])
def test_without_noise_having_no_training_rows_is_bad_data(three: ThreeSites, condition: str) -> None:
    spec = replace(SPEC, sql=f"SELECT * FROM visits WHERE {condition}")
    admit(three, spec.sql)
    with pytest.raises(BadDataError):
        ingest(three.place("alpha"), spec)


def test_the_pointer_of_a_ticket_names_the_rows(three: ThreeSites) -> None:
    place = three.place("alpha")
    outcome = ingest(place, SPEC)
    pointer = json.loads(place.store.read(f"ingested/{place.ticket.digest}.json"))
    assert pointer == outcome.manifest
