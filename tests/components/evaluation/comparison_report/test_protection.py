"""Protection from attempts: the choice of the attack on one half, and what counts under which measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from components.evaluation.comparison_report.protection import ALL_ATTACKS, EXAMPLE_LEVEL, Protection

if TYPE_CHECKING:
    from tests.components.evaluation.comparison_report.conftest import Results


def attempt(attack: str, halves: tuple[float, float], view: str = "aggregator") -> dict[str, Any]:
    return {
        "attack": attack,
        "view": view,
        "variant": "first round",
        "auc_halves": list(halves),
        "members": 5000,
        "others": 5000,
    }


def protected(
    results: Results, attempts: list[dict[str, Any]], epsilon: float | None = None
) -> dict[str, Any]:
    return results.record(
        "protection",
        {"accuracy": 0.72, "curve": [0.72], "attempts": attempts},
        method="ours" if epsilon else "fedavg",
        epsilon=epsilon,
        seed=1,
    )


def test_an_attack_is_chosen_on_one_half_and_measured_on_the_other(results: Results) -> None:
    # On the first half the first looks best and is worth 0 on the second; on the second half the other
    # looks best and is worth 2·0.6 − 1 on the first. The best of means would have claimed 0.4.
    attempts = [attempt("canaries", (0.9, 0.5)), attempt("canaries", (0.6, 0.8), "participant")]
    protection = Protection(results.data_set([protected(results, attempts)]))
    assert protection.effects(ALL_ATTACKS, "fedavg", None) == {1: pytest.approx(0.9)}


def test_class_presence_counts_under_all_attacks_only(results: Results) -> None:
    attempts = [attempt("canaries", (0.55, 0.55)), attempt("class-presence", (0.95, 0.95))]
    protection = Protection(results.data_set([protected(results, attempts)]))
    assert protection.effects(ALL_ATTACKS, "fedavg", None) == {1: pytest.approx(0.1)}
    assert protection.effects(EXAMPLE_LEVEL, "fedavg", None) == {1: pytest.approx(0.9)}
    strongest = protection.strongest_at(ALL_ATTACKS, "fedavg", None)
    assert strongest is not None
    assert strongest.attack == "class-presence"
    assert strongest.auc.mean == pytest.approx(0.95)


def test_without_an_example_level_attack_there_is_no_such_protection(results: Results) -> None:
    protection = Protection(results.data_set([protected(results, [attempt("class-presence", (0.7, 0.7))])]))
    assert protection.effects(EXAMPLE_LEVEL, "fedavg", None) == {}
    assert protection.strongest_at(EXAMPLE_LEVEL, "fedavg", None) is None


def test_a_likelihood_ratio_record_stands_for_its_methods_seeds_and_epsilon(results: Results) -> None:
    weak, strong = attempt("canaries", (0.5, 0.5)), attempt("likelihood-ratio", (0.8, 0.8), "model")
    records = [
        protected(results, [weak]),
        protected(results, [weak], 1.0),
        protected(results, [weak], 8.0),
        results.record(
            "likelihood-ratio",
            {"by_seed": {"1": [strong], "2": [strong]}, "stands_for": ["fedavg", "he-fl"], "shadows": 16},
            method="fedavg",
            epsilon=None,
        ),
        results.record(
            "likelihood-ratio",
            {"by_seed": {"1": [strong]}, "stands_for": ["ours"], "shadows": 16},
            method="ours",
            epsilon=8.0,
        ),
    ]
    protection = Protection(results.data_set(records))
    assert protection.effects(EXAMPLE_LEVEL, "fedavg", None) == {1: pytest.approx(0.4)}
    assert protection.effects(EXAMPLE_LEVEL, "ours", 8.0) == {1: pytest.approx(0.4)}
    assert protection.effects(EXAMPLE_LEVEL, "ours", 1.0) == {1: 1.0}
    assert protection.points == (("fedavg", None), ("ours", 1.0), ("ours", 8.0))
    assert protection.scored("fedavg", None) == {"canaries": 5000, "likelihood-ratio": 5000}


def test_products_use_accuracy_relative_to_the_mean_of_centralised_training(results: Results) -> None:
    records = [protected(results, [attempt("canaries", (0.75, 0.75))])]
    without = Protection(results.data_set(records))
    assert without.products(ALL_ATTACKS, "fedavg", None) == {}
    central = [
        results.record("centralised", {"accuracy": accuracy, "epochs": 3}, seed=seed)
        for seed, accuracy in ((1, 0.89), (2, 0.91))
    ]
    protection = Protection(results.data_set(records + central))
    assert protection.relative_accuracy("fedavg", None) == {1: pytest.approx(0.8)}
    assert protection.products(ALL_ATTACKS, "fedavg", None) == {1: pytest.approx(0.5 * 0.8)}
