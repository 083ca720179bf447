"""AUC against scikit-learn's and its laws; what chance gives; what choosing an attack may gain."""

from __future__ import annotations

import json
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.errors import IntegrityError, UsageError
from components.evaluation.attacks.advantage import (
    Attempt,
    attempt,
    auc,
    chance_interval,
    halves,
    strongest,
)

Float = NDArray[np.float64]
SCORES = st.lists(st.integers(-4, 4), min_size=1, max_size=30).map(lambda found: np.array(found, float))


def made(first: float, second: float, variant: str = "") -> Attempt:
    return Attempt(
        attack="canaries", view="model", variant=variant, auc_halves=(first, second), members=9, others=9
    )


@given(SCORES, SCORES)
@settings(max_examples=200)
def test_auc_agrees_with_scikit_learn_ties_included(members: Float, others: Float) -> None:
    from sklearn import metrics as sklearn_metrics

    truth = np.repeat([1, 0], [len(members), len(others)])
    expected = sklearn_metrics.roc_auc_score(truth, np.concatenate([members, others]))
    assert auc(members, others) == pytest.approx(expected, abs=1e-12)


@given(SCORES, SCORES)
@settings(max_examples=100)
def test_auc_keeps_under_growing_functions_and_turns_with_its_sides(members: Float, others: Float) -> None:
    found = auc(members, others)
    assert auc(np.exp(3 * members) - 7, np.exp(3 * others) - 7) == found
    assert auc(others, members) == pytest.approx(1 - found, abs=1e-12)
    assert auc(-members, -others) == pytest.approx(1 - found, abs=1e-12)


def test_auc_of_shifted_normal_scores_is_the_closed_form() -> None:
    generator = np.random.default_rng(1)
    count, shift = 40_000, 1.3
    found = auc(generator.normal(shift, 1, count), generator.normal(0, 1, count))
    # Hanley and McNeil 1982: a deviation below √(AUC·(1 − AUC)/min(m, n)); five of them.
    expected = NormalDist().cdf(shift / math.sqrt(2))
    assert abs(found - expected) < 5 * math.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize("sides", [([], [1.0]), ([1.0], []), ([np.nan], [1.0]), ([1.0], [np.inf])])
def test_auc_refuses_what_has_no_answer(sides: tuple[list[float], list[float]]) -> None:
    with pytest.raises(UsageError):
        auc(np.array(sides[0]), np.array(sides[1]))


def test_chance_has_the_variance_of_mann_and_whitney() -> None:
    generator = np.random.default_rng(2)
    members, others, draws = 30, 50, 4000
    found = np.array(
        [auc(generator.normal(size=members), generator.normal(size=others)) for _ in range(draws)]
    )
    variance = (members + others + 1) / (12 * members * others)
    # A sample variance of so many draws has a relative deviation of √(2/draws) = 2.2 %; five of them.
    assert found.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / draws))
    low, high = chance_interval(members, others, 0.95)
    inside = np.mean((found > low) & (found < high))
    assert abs(inside - 0.95) < 5 * math.sqrt(0.95 * 0.05 / draws)


def test_chance_interval_lies_about_a_half_and_within_reason() -> None:
    low, high = chance_interval(2500, 2500, 0.999)
    assert low + high == pytest.approx(1)
    assert high - 0.5 == pytest.approx(3.2905 * math.sqrt(5001 / (12 * 2500**2)), rel=1e-4)
    assert chance_interval(1, 1, 0.999) == (0, 1)


@pytest.mark.parametrize("arguments", [(0, 5, 0.9), (5, 0, 0.9), (5, 5, 0.0), (5, 5, 1.0)])
def test_chance_interval_refuses_what_is_out_of_range(arguments: tuple[int, int, float]) -> None:
    with pytest.raises(UsageError):
        chance_interval(*arguments)


@pytest.mark.parametrize("count", [2, 7, 100])
def test_halves_are_halves_and_follow_the_seed(count: int) -> None:
    assert halves(count, 3).sum() == count // 2
    assert np.array_equal(halves(count, 3), halves(count, 3))
    assert not np.array_equal(halves(100, 3), halves(100, 4))


def test_an_attempt_measures_each_half_by_itself() -> None:
    scores = np.array([1.0, 0.0, 0.0, 1.0])
    is_member = np.array([True, False, True, False])
    half = np.array([False, False, True, True])
    found = attempt("canaries", "participant", "x", scores=scores, is_member=is_member, half=half)
    assert found.auc_halves == (1.0, 0.0)
    assert (found.members, found.others) == (2, 2)
    assert found.advantage == 0
    assert made(0.9, 0.8).advantage == pytest.approx(0.7)


def test_an_attempt_comes_back_from_json() -> None:
    found = made(0.75, 0.5, "first round")
    assert Attempt.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize("change", [{"auc_halves": [0.5]}, {"auc_halves": [0.5, 1.5]}, {"members": "many"}])
def test_an_attempt_that_is_none_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        Attempt.from_dict(made(0.5, 0.5).to_dict() | change)


def test_the_strongest_is_chosen_on_one_half_and_measured_on_the_other() -> None:
    # Best on the first half: 0.9 → 0.6 on the second; best on the second: 0.7 → 0.55 on the first.
    assert strongest([made(0.9, 0.6), made(0.55, 0.7)]) == pytest.approx((0.2 + 0.1) / 2)
    assert strongest([made(0.5, 0.5), made(0.9, 0.9)]) == pytest.approx(0.8)


def test_a_surer_attack_is_preferred_to_one_that_chance_may_have_made_strong() -> None:
    # Of 20 members and others an AUC of 0.62 is 1.3 deviations of chance away; of 4,000, 0.58 is 12.
    few = Attempt(attack="few", view="v", variant="", auc_halves=(0.62, 0.45), members=40, others=40)
    many = Attempt(attack="many", view="v", variant="", auc_halves=(0.58, 0.57), members=8000, others=8000)
    assert strongest([few, many]) == pytest.approx((0.16 + 0.14) / 2)


def test_an_attack_that_is_always_wrong_is_turned_round() -> None:
    assert strongest([made(0.1, 0.2), made(0.6, 0.6)]) == pytest.approx((0.6 + 0.8) / 2)


def test_the_best_of_many_coins_gains_nothing() -> None:
    generator = np.random.default_rng(5)
    is_member, half = generator.random(2000) < 0.5, halves(2000, 1)
    coins = [
        attempt("a", "v", str(number), scores=generator.random(2000), is_member=is_member, half=half)
        for number in range(100)
    ]
    _, high = chance_interval(500, 500, 0.999)
    assert max(coin.auc_halves[0] for coin in coins) - 0.5 > 0.03  # what choosing on the same rows would say
    assert strongest(coins) < 2 * high - 1


def test_no_attempt_is_no_protection() -> None:
    with pytest.raises(UsageError, match="no attack was made"):
        strongest([])
