"""Every kind of configuration on a corpus that is made up, with what must come out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from components.errors import BadDataError, UsageError
from components.evaluation.attacks.advantage import Attempt, chance_interval, strongest
from components.evaluation.method_measurement.choosing import candidates
from components.evaluation.method_measurement.configurations import Configuration
from components.evaluation.method_measurement.convergence import plan_of
from components.evaluation.method_measurement.experiment import deal_of, rounds_to, without_validation
from components.evaluation.method_measurement.measurement import measure
from components.evaluation.rehearsal.plans import Plan
from tests.components.evaluation.rehearsal.made import CLASSES, FEATURES, made_corpus

COMMON: Configuration = {"sites": 4, "concentration": 0.1}
PLANS = {
    "fedavg": Plan(method="fedavg", rounds=6, learning_rate=0.1),
    "ours": Plan(method="ours", rounds=4, learning_rate=1.0, epsilon=0.5, optimizer="sgd"),
}


def earlier(method: str, purpose: str) -> list[dict[str, Any]]:
    """The choice that a measurement needs, as an earlier stage would have recorded it."""
    plan = PLANS[method]
    configuration = {"kind": "choice", "purpose": purpose, "method": method, "epsilon": plan.epsilon}
    central = {"kind": "centralised", "features": "language model", "seed": 1}
    return [
        {"configuration": configuration, "outcome": {"plan": plan.to_dict(), "tried": []}},
        {"configuration": central, "outcome": {"accuracy": 0.9}},
    ]


def protection_of(method: str, trained_as: str) -> dict[str, Any]:
    configuration = {
        "kind": "protection",
        "method": method,
        "epsilon": PLANS[trained_as].epsilon,
        "seed": 1,
        "canaries": 200,
        "batches": 6,
        "sealed_rounds": 1,
        **COMMON,
    }
    return measure(configuration, made_corpus(), earlier(trained_as, "linear"))


@pytest.fixture(scope="module")
def plaintext() -> dict[str, Any]:
    return protection_of("fedavg", "fedavg")


def attempts_of(outcome: dict[str, Any], view: str, attack: str) -> list[Attempt]:
    found = [Attempt.from_dict(each) for each in outcome["attempts"]]
    return [each for each in found if (each.view, each.attack) == (view, attack)]


@pytest.mark.parametrize("attack", ["canaries", "class-presence", "inversion"])
def test_every_attack_succeeds_on_updates_in_clear(plaintext: dict[str, Any], attack: str) -> None:
    assert strongest(attempts_of(plaintext, "aggregator", attack)) > 0.5


@pytest.mark.parametrize(
    ("method", "trained_as"), [("smc-fl", "fedavg"), ("he-fl", "fedavg"), ("ours", "ours")]
)
def test_on_what_the_aggregator_has_of_a_sealed_update_every_attack_is_at_chance(
    method: str, trained_as: str
) -> None:
    outcome = protection_of(method, trained_as)
    found = [Attempt.from_dict(each) for each in outcome["attempts"] if each["view"] == "aggregator"]
    assert {each.attack for each in found} == {"canaries", "class-presence", "inversion"}
    for each in found:
        # Keys are drawn anew for every run: one in 10⁷ falls outside, over both halves and all variants.
        low, high = chance_interval(each.members // 2, each.others // 2, 1 - 1e-8)
        # An inversion scores rows of one class against one thing that was inverted: they are not independent.
        room = 0.2 if each.attack == "inversion" else 0.0
        assert all(low - room < value < high + room for value in each.auc_halves), each


def test_little_epsilon_leaves_little_to_find_in_models_too() -> None:
    outcome = protection_of("ours", "ours")
    found = [Attempt.from_dict(each) for each in outcome["attempts"] if each["attack"] == "canaries"]
    # ε = 0.5 at δ = 1e-5 is μ = 0.14 against whoever sees everything: AUC 0.54; the rest is chance.
    assert max(each.advantage for each in found) < 0.35


def test_protection_is_the_same_when_it_is_measured_again(plaintext: dict[str, Any]) -> None:
    assert protection_of("fedavg", "fedavg") == plaintext


def test_label_error_is_small_in_clear_and_that_of_a_guess_from_sums(plaintext: dict[str, Any]) -> None:
    errors = plaintext["label_error"]
    assert errors["aggregator"] < 0.5 * errors["guess"]
    assert errors["model"] > 0.7 * errors["guess"]


def test_a_choice_is_the_best_that_was_tried_on_validation_rows() -> None:
    configuration = {
        "kind": "choice",
        "purpose": "linear",
        "method": "fedavg",
        "epsilon": None,
        "tries": 3,
        **COMMON,
    }
    outcome = measure(configuration, made_corpus(), [])
    assert len(outcome["tried"]) == 3
    best = max(outcome["tried"], key=lambda each: each["accuracy"])
    assert outcome["plan"] == best["plan"]


def test_validation_rows_are_with_no_site() -> None:
    corpus = made_corpus()
    deal, validation = without_validation(corpus, sites=4, concentration=0.5, seed=1)
    fitting = sum(len(rows.labels) for rows in deal.train.values())
    assert fitting + len(validation.labels) == len(corpus.train.labels)
    own = {row.tobytes() for rows in deal.train.values() for row in rows.features}
    assert not own & {row.tobytes() for row in validation.features}


@pytest.mark.parametrize(
    ("method", "epsilon"),
    [("ours", 0.5), ("ours", 3.0), ("ours", 8.0), ("dp-fl", 0.5), ("dp-fl", 8.0), ("fedavg", None)],
)
@pytest.mark.parametrize("purpose", ["linear", "deep"])
def test_every_grid_has_plans_of_its_method(method: str, epsilon: float | None, purpose: str) -> None:
    plans = list(candidates({"purpose": purpose, "method": method, "epsilon": epsilon}))
    assert {(plan.method, plan.epsilon) for plan in plans} == {(method, epsilon)}
    assert len({tuple(plan.to_dict().items()) for plan in plans}) == len(plans) > 1


def convergence_of(**changes: Any) -> Configuration:
    return {
        "kind": "convergence",
        "figure": "hidden-units",
        "method": "fedavg",
        "epsilon": None,
        "hidden_units": 8,
        "features": "language model",
        "learning_rate": None,
        "rounds": 15,
        "seed": 1,
        **COMMON,
    } | changes


def test_convergence_tells_the_first_round_at_a_target() -> None:
    outcome = measure(convergence_of(rounds=60), made_corpus(apart=4.0), earlier("fedavg", "deep"))
    curve = outcome["curve"]
    assert outcome["rounds_to_85"] == rounds_to(curve, 0.85)
    assert outcome["rounds_to_95_of_central"] == rounds_to(curve, 0.95 * 0.9)
    assert outcome["ended"] == "reached"
    # No round is trained beyond both targets.
    assert max(curve[:-1], default=0) < max(0.85, 0.855)
    assert 0 < outcome["seconds_to_85"] <= outcome["seconds"] + 1e-3


def test_what_never_arrives_and_what_diverges_are_told_apart() -> None:
    slow = measure(convergence_of(learning_rate=1e-6, rounds=2), made_corpus(), earlier("fedavg", "deep"))
    assert (slow["ended"], slow["rounds_to_85"], len(slow["curve"])) == ("not reached", None, 2)
    wild = measure(convergence_of(learning_rate=3e38), made_corpus(), earlier("fedavg", "deep"))
    assert (wild["ended"], wild["rounds_to_85"]) == ("diverged", None)


def test_where_rates_are_looked_at_ours_steps_with_the_rate_asked_for() -> None:
    asked = convergence_of(figure="learning-rate", method="ours", epsilon=4.0, learning_rate=0.03, rounds=60)
    plan = plan_of(asked, PLANS["ours"])
    assert (plan.learning_rate, plan.optimizer, plan.rounds, plan.hidden_units) == (0.03, "adam", 20, 8)


def test_centralised_learns_on_all_rows() -> None:
    configuration = {"kind": "centralised", "features": "words", "epochs": 4, "seed": 1}
    outcome = measure(configuration, made_corpus(apart=3.0), [])
    assert outcome["accuracy"] > 0.8
    assert 1 <= outcome["epochs"] <= 4


def test_migration_measures_founders_and_the_late_cloud() -> None:
    configuration = {"kind": "migration", "method": "fedavg", "epsilon": None, "seed": 1, **COMMON}
    corpus = made_corpus()
    sites = measure(configuration, corpus, earlier("fedavg", "linear"))["sites"]
    assert [each["joined"] for each in sites] == ["founder"] * 4 + ["late"]
    founders = sum(each["rows"] for each in sites[:-1])
    assert founders == len(corpus.train.labels) - len(corpus.late_rows)
    assert all(0 <= each[name] <= 1 for each in sites for name in ("before", "adapted", "local"))


def test_shadow_models_find_members_of_an_overfit_model() -> None:
    configuration = {
        "kind": "likelihood-ratio",
        "method": "fedavg",
        "epsilon": None,
        "seeds": [1, 2],
        "shadows": 8,
        **COMMON,
    }
    corpus = made_corpus(rows=320, apart=0.2)
    outcome = measure(configuration, corpus, earlier("fedavg", "linear"))
    assert outcome["stands_for"] == ["fedavg", "smc-fl", "he-fl"]
    found = [Attempt.from_dict(each) for made in outcome["by_seed"].values() for each in made]
    assert len(found) == 2
    assert np.mean([each.advantage for each in found]) > 0.1


@pytest.mark.parametrize("method", ["fedavg", "ours"])
def test_costs_name_every_step_and_what_is_uploaded(method: str) -> None:
    epsilon = PLANS[method].epsilon
    configuration = {
        "kind": "costs",
        "method": method,
        "epsilon": epsilon,
        "hidden_units": 8,
        "repetitions": 1,
        **COMMON,
    }
    outcome = measure(configuration, made_corpus(), earlier(method, "deep"))
    steps = {each["step"]: each for each in outcome["steps"]}
    wanted = {"train", "commit", "seal", "aggregate", "open", "commit round", "adapt", "evaluate"}
    assert set(steps) == wanted | ({"release"} if method == "ours" else set())
    assert outcome["parameters"] == 8 * FEATURES + 8 + CLASSES * 8 + CLASSES
    # Values of 8 bytes in clear; whole ciphertexts of 16,384 words when sealed.
    assert steps["seal"]["bytes"] > (16_384 * 8 if method == "ours" else 8 * outcome["parameters"])
    assert all(each["seconds"] >= 0 for each in outcome["steps"])


def test_what_was_not_measured_before_is_asked_for_in_one_line() -> None:
    with pytest.raises(UsageError, match="no earlier outcome has kind choice, purpose deep, method fedavg"):
        measure(convergence_of(), made_corpus(), earlier("fedavg", "linear"))
    with pytest.raises(UsageError, match="unknown kind of configuration 'guess'"):
        measure({"kind": "guess"}, made_corpus(), [])


def test_too_few_rows_for_the_sites_are_told() -> None:
    with pytest.raises(BadDataError, match="are too few for 4 sites"):
        deal_of(made_corpus(rows=60), sites=4, concentration=0.1, seed=1)
