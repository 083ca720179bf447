"""Charters and policies of a federation whose sums are noised: terms, editions, budgets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.agreement.charter import Charter
from components.agreement.noise_terms import NoiseTerms
from components.agreement.site_policy import PrivacyPolicy, load_policy
from components.artifacts.stores import open_store
from components.errors import UsageError
from pipelines.charter_comparison import changes, differences, policy_problems
from pipelines.charter_terms import explained
from pipelines.chartering import ensure_charter, first_policy, propose_charter, sign_charter, unsigned
from pipelines.federation import load_federation
from pipelines.noise_schedule import noise_terms
from tests.conftest import SITES, SmallFederation
from tests.pipelines.chartered import KEYS, SIGNERS, Chartered, content
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.noised import ours, set_privacy

Make = Callable[..., SmallFederation]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


@pytest.fixture
def noised(small_federation: Make) -> Chartered:
    """A charter of two rounds at epsilon 8 that everybody has signed."""
    made = small_federation(rows=0, **ours())
    return Chartered(made=made, charter=ensure_charter(load_federation(made.path)))


def noise_of(charter: Charter) -> NoiseTerms:
    assert charter.privacy is not None
    return charter.privacy


def after(rounds: int) -> None:
    """As if so many rounds had been committed."""
    state = open_store("small/state")
    for number in range(1, rounds + 1):
        state.create(f"rounds/{number:05d}/round.json", b"{}")


def test_the_charter_holds_the_schedule_and_the_gradients_bounds(noised: Chartered) -> None:
    charter = noised.charter
    assert charter.privacy == noise_terms(noised.federation, first_round=1)
    assert (charter.algorithm, charter.server_optimizer, charter.server_learning_rate) == (
        "fedsgd",
        "adam",
        0.05,
    )
    # An example's gradient is bounded as a whole, and its sums need all bits of a slot.
    assert (charter.clipping_norm, charter.largest_value, charter.values_per_slot) == (1.5, 1.5, 1)
    assert charter.problems() == []
    assert differences(noised.federation, charter) == []


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "epsilon": ({"target_epsilon": 4.0}, "epsilon 4 at delta 1e-05 over rounds 1 to 2, noise multiplier"),
    "delta": ({"delta": 1e-6}, "epsilon 8 at delta 1e-06 over rounds 1 to 2, noise multiplier"),
    "rounds": ({"rounds": 5}, "epsilon 8 at delta 1e-05 over rounds 1 to 5, noise multiplier"),
    "unit": (
        {"unit": "patient", "rows_per_unit": 3},
        "of one patient with at most 3 rows at a site among 20000 people",
    ),
    "population": ({"public_population": 30000}, "of one row among 30000 people"),
    "rows": ({"rows_per_unit": 3}, "of one person with at most 3 rows at a site among 20000 people"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_another_schedule_is_told_with_both_values_and_asks_for_a_new_edition(
    noised: Chartered, say: Say, what: str
) -> None:
    values, text = CHANGED[what]
    set_privacy(noised.made, **values)
    before = content(noised.made.home)
    (line,) = say("run", noised.made.path).complaints
    assert line.startswith("privacy: the federation file has epsilon ")
    asked, _, agreed = line.partition(", the charter in force has ")
    assert text in asked
    assert agreed.startswith("epsilon 8 at delta 1e-05 over rounds 1 to 2, noise multiplier ")
    assert text not in agreed, "the two must not look alike"
    assert "have a new charter signed ('crosscloud charter new', then 'charter sign')" in line
    assert content(noised.made.home) == before


def test_another_clipping_norm_and_another_server_are_told(noised: Chartered) -> None:
    set_privacy(noised.made, clipping_norm=0.5)
    noised.made.document["training"] |= {"server_optimizer": "sgd", "server_learning_rate": 2.0}
    found = differences(load_federation(noised.made.save()), noised.charter)
    starts = {line.partition(", or have")[0].partition(": change")[0] for line in found}
    told = {
        "clipping_norm: the federation file has 0.5, the charter in force has 1.5",
        "largest_value: the federation file has 0.5, the charter in force has 1.5",
        "server_learning_rate: the federation file has 2.0, the charter in force has 0.05",
        "server_optimizer: the federation file has sgd, the charter in force has adam",
    }
    assert starts >= told
    assert {start.partition(":")[0] for start in starts - told} == {"genesis"}, "the optimiser's state"


def test_what_fedavg_alone_needs_may_change(noised: Chartered) -> None:
    noised.made.document["limits"] |= {"clipping_norm": 7.0, "largest_value": 0.5, "values_per_slot": 1}
    assert differences(load_federation(noised.made.save()), noised.charter) == []


def test_an_edition_that_keeps_the_schedule_keeps_its_rounds(noised: Chartered) -> None:
    after(1)
    second = propose_charter(noised.changed("limits", "max_examples", to=500))
    assert noise_of(second) == noise_of(noised.charter)
    assert changes(noised.charter, second) == ["max_examples: 1000 → 500"]


def test_an_edition_that_changes_the_schedule_starts_it_at_the_next_round(noised: Chartered) -> None:
    after(1)
    set_privacy(noised.made, target_epsilon=4.0)
    federation = load_federation(noised.made.path)
    second = propose_charter(federation)
    noise = noise_of(second)
    assert (noise.first_round, noise.last_round) == (2, 3)
    assert noise == noise_terms(federation, first_round=2)
    (line,) = changes(noised.charter, second)
    assert line.startswith("privacy: epsilon 8 at delta 1e-05 over rounds 1 to 2, noise multiplier ")
    assert " → epsilon 4 at delta 1e-05 over rounds 2 to 3, noise multiplier " in line
    assert differences(federation, second) == [], "the file goes with it, whichever round it starts at"
    assert noise.noise_multiplier(1) is None
    assert noise_of(noised.charter).noise_multiplier(3) is None


def test_once_a_schedule_is_over_the_same_terms_are_a_new_one(noised: Chartered) -> None:
    """A monthly allowance goes on that way: all sign again, and their budgets decide."""
    after(1)
    with pytest.raises(UsageError, match="has these terms already: nothing was written"):
        propose_charter(noised.federation)
    after_second = open_store("small/state")
    after_second.create("rounds/00002/round.json", b"{}")
    second = propose_charter(noised.federation)
    assert second.privacy == dataclasses.replace(noise_of(noised.charter), first_round=3)
    assert second.edition == 2


def test_terms_that_cannot_be_kept_are_refused_before_keys_are_made(small_federation: Make) -> None:
    """The range of a slot, for noise and for sums: a charter with it would stop every round."""
    made = small_federation(rows=0, **ours(target_epsilon=0.001, delta=1e-12, rounds=60_000))
    with pytest.raises(UsageError, match="noise_multiplier must be above 0, from"):
        ensure_charter(load_federation(made.path))
    assert content(made.home) == {}


def test_the_terms_are_explained_to_those_who_sign(noised: Chartered) -> None:
    told = {name: (value, meaning) for name, value, meaning in explained(noised.charter)}
    sigma = min(noise_of(noised.charter).noise_multipliers)
    assert told["epsilon"] == ("8", "rounds 1 to 2 together, at delta 1e-05, of one row")
    assert told["noise"] == (
        f"{sigma:g}",
        "smallest noise multiplier, after colluding sites have taken theirs off",
    )
    assert told["algorithm"] == ("fedsgd", "server optimiser: adam with learning rate 0.05")
    assert told["clipping_norm"] == ("1.5", "an example's longer gradient is scaled down to this L2 norm")
    assert not {"error bound", "largest_value"} & set(told), "they are of weighted updates"


def test_a_person_of_several_rows_is_named_to_those_who_sign(small_federation: Make) -> None:
    charter = ensure_charter(load_federation(small_federation(rows=0, **ours(rows_per_unit=3)).path))
    (meaning,) = (meaning for name, _, meaning in explained(charter) if name == "epsilon")
    assert meaning == "rounds 1 to 2 together, at delta 1e-05, of one person with at most 3 rows at a site"


def test_a_column_that_names_the_unit_goes_into_charter_and_policies(
    small_federation: Make, say: Say
) -> None:
    made = small_federation(rows=0, **ours(unit="patient", rows_per_unit=8))
    noised = Chartered(made=made, charter=ensure_charter(load_federation(made.path)))
    noise = noise_of(noised.charter)
    assert (noise.unit, noise.rows_per_unit) == ("patient", 8)
    by_row = noise_terms(load_federation(set_privacy_to(made, unit=None, rows_per_unit=None)), first_round=1)
    assert by_row is not None
    assert noise.noise_multipliers == by_row.noise_multipliers, "a patient costs what a row costs"
    set_privacy(made, unit="patient", rows_per_unit=8)
    told = {name: meaning for name, _, meaning in explained(noised.charter)}
    assert told["epsilon"].endswith("of one patient with at most 8 rows at a site")
    assert told["unit"] == "rows with the same value here are clipped together, as one"
    for site in SITES:
        budget = load_policy(KEYS, site).privacy
        assert budget is not None
        assert (budget.unit, budget.rows_per_unit) == ("patient", 8)
    assert policy_problems(noised.federation, noised.charter) == []
    edited(noised, "alpha", unit="row")
    edited(noised, "beta", rows_per_unit=5)
    alpha, beta = say("run", made.path).complaints
    assert alpha.startswith("alpha: the site's policy protects single rows, the charter each patient: ")
    assert beta.startswith("beta: the charter admits 8 rows of one patient, the site's policy at most 5: ")


def set_privacy_to(made: SmallFederation, **privacy: Any) -> Path:
    """The file without the values that are None."""
    set_privacy(made, **privacy)
    section = made.document["privacy"]
    made.document["privacy"] = {name: value for name, value in section.items() if value is not None}
    return made.save()


@pytest.mark.parametrize("site", SITES)
def test_a_first_budget_is_the_schedules_cost_in_a_ledger_beside_the_warehouse(
    noised: Chartered, site: str
) -> None:
    noise = noise_of(noised.charter)
    budget = PrivacyPolicy(
        dataset=f"small/sites/{site}/warehouse.duckdb",
        ledger_uri=f"small/sites/{site}/ledger",
        unit="row",
        epsilon=8.0,
        delta=1e-5,
        per="total",
        least_noise_multiplier=noise.noise_multipliers[0],
    )
    assert load_policy(KEYS, site).privacy == budget
    assert first_policy(noised.federation, noised.charter, site).privacy == budget
    assert load_policy(KEYS, "key-holder").privacy is None


@pytest.mark.parametrize(
    ("uri", "ledger"),
    [
        ("warehouses/beta/*.parquet", "warehouses/beta/ledger"),
        ("warehouses/*/visits.parquet", "small/sites/beta/store"),
        ("warehouses/[ab]/visits.parquet", "small/sites/beta/store"),
        ("visits.parquet", "small/sites/beta/store"),
        ("s3://bucket/visits.parquet", "s3://bucket/ledger"),
    ],
)
def test_the_ledger_lies_where_the_data_lie_or_in_the_sites_store(
    noised: Chartered, uri: str, ledger: str
) -> None:
    federation = noised.changed("sites", 1, "data", "uri", to=uri)
    budget = first_policy(federation, noised.charter, "beta").privacy
    assert budget is not None
    assert (budget.ledger_uri, budget.dataset) == (ledger, uri)


def test_the_ledger_of_a_warehouse_that_is_no_store_is_the_one_that_the_file_names(noised: Chartered) -> None:
    data = {
        "source": "bigquery",
        "uri": "bigquery://demo/clinic",
        "sql": "SELECT note, organ, category FROM visits",
        "bigquery": {"location": "EU", "maximum_bytes_billed": 10**9},
        "dataset": "visits of the clinic",
        "ledger_uri": "clinic/ledger",
    }
    budget = first_policy(noised.changed("sites", 1, "data", to=data), noised.charter, "beta").privacy
    assert budget is not None
    assert (budget.ledger_uri, budget.dataset) == ("clinic/ledger", "visits of the clinic")


def test_dataset_unit_and_period_are_the_files(noised: Chartered) -> None:
    set_privacy(noised.made, per="month", rows_per_unit=3)
    federation = noised.changed("sites", 1, "data", "dataset", to="visits of the clinic")
    charter = propose_charter(federation)
    budget = first_policy(federation, charter, "beta").privacy
    assert budget is not None
    assert (budget.dataset, budget.unit, budget.per) == ("visits of the clinic", "person", "month")


def edited(chartered: Chartered, site: str, **values: Any) -> None:
    """What a site's people write into their policy's budget; None takes it out."""
    path = chartered.policy(site)
    document = yaml.safe_load(path.read_text())
    document["privacy"] = document["privacy"] | values if values else None
    path.write_text(yaml.safe_dump(document))


def test_a_policy_that_wants_more_noise_or_has_no_budget_is_told_before_the_run(
    noised: Chartered, say: Say
) -> None:
    edited(noised, "alpha", least_noise_multiplier=50.0)
    edited(noised, "gamma")
    before = content(noised.made.home)
    said = say("run", noised.made.path)
    sigma = noise_of(noised.charter).noise_multipliers[0]
    wanted = [
        f"alpha: the site's policy asks for a noise multiplier of at least 50, the charter has {sigma:g} (",
        "gamma: the charter asks for differential privacy, the site's policy sets no budget (",
    ]
    assert (said.code, len(said.complaints)) == (2, 2)
    assert all(line.startswith(text) for line, text in zip(said.complaints, wanted, strict=True))
    assert content(noised.made.home) == before


@pytest.fixture
def noised_by_sgd(small_federation: Make) -> Chartered:
    """Plain steps remember nothing: the same federation may average later."""
    made = small_federation(rows=0, **ours())
    made.document["training"]["server_optimizer"] = "sgd"
    return Chartered(made=made, charter=ensure_charter(load_federation(made.save())))


def test_a_site_with_a_budget_does_not_sign_for_sums_without_noise(noised_by_sgd: Chartered) -> None:
    plain = noised_by_sgd.federation.with_method("sealed")
    second = propose_charter(plain)
    with pytest.raises(UsageError) as raised:
        sign_charter(plain, second, "beta")
    assert str(raised.value).startswith(
        "beta does not sign: the site's policy asks for differential privacy, the charter has none. Change "
    )
    assert unsigned(plain, second) == SIGNERS
    assert sign_charter(plain, second, "beta", renew_policy=True).privacy is None


def test_a_site_without_a_budget_does_not_sign_for_noise(chartered: Chartered) -> None:
    chartered.made.document.update(ours())
    federation = chartered.changed("training", "server_optimizer", to="sgd")
    second = propose_charter(federation)
    line = next(line for line in changes(chartered.charter, second) if line.startswith("privacy: "))
    assert line.startswith("privacy: none → epsilon 8 at delta 1e-05 over rounds 1 to 2")
    with pytest.raises(
        UsageError, match=r"^beta does not sign: .*, the site's policy sets no budget\. Change "
    ):
        sign_charter(federation, second, "beta")
    for signer in SIGNERS:
        sign_charter(federation, second, signer, renew_policy=True)
    assert policy_problems(federation, second) == []
    assert ensure_charter(federation) == second


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_an_edition_under_which_no_model_could_go_on_is_not_proposed(
    noised_by_sgd: Chartered, optimizer: str
) -> None:
    """What the optimiser remembers lies beside the weights, in the genesis model too."""
    federation = noised_by_sgd.changed("training", "server_optimizer", to=optimizer)
    before = content(noised_by_sgd.made.home)
    with pytest.raises(UsageError, match=rf"^server_optimizer: edition 1 has sgd, .* asks for {optimizer}, "):
        propose_charter(federation)
    assert content(noised_by_sgd.made.home) == before
