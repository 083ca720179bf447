"""The bound for any mechanism against exact binomial tails, a second computation and randomised response."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from components.errors import UsageError
from components.evaluation.audit.lower_bound import epsilon_lower_bound, p_value


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("right", "guesses"), [(0, 10), (7, 10), (10, 10), (70, 100), (480, 500)])
def test_without_delta_it_is_the_binomial_tail(epsilon: float, right: int, guesses: int) -> None:
    exact = stats.binom.sf(right - 1, guesses, 1 / (1 + math.exp(-epsilon)))
    found = p_value(epsilon, 0.0, right=right, guesses=guesses, canaries=1000)
    assert found == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("delta", [1e-6, 1e-5, 1e-3])
def test_with_delta_it_is_what_the_theorem_says(delta: float) -> None:
    canaries, guesses, right, epsilon = 900, 200, 170, 1.0
    wrong_or_right = stats.binom(guesses, 1 / (1 + math.exp(-epsilon)))
    steepest = max(
        (wrong_or_right.cdf(right - 1) - wrong_or_right.cdf(right - i - 1)) / i
        for i in range(1, canaries + 1)
    )
    exact = wrong_or_right.sf(right - 1) + 2 * canaries * delta * steepest
    found = p_value(epsilon, delta, right=right, guesses=guesses, canaries=canaries)
    assert found == pytest.approx(min(1.0, exact), rel=1e-9)


def test_guesses_that_are_all_right_bound_epsilon_in_closed_form() -> None:
    # p^r = 1 - confidence, p = 1 / (1 + e^-epsilon).
    share = 0.05 ** (1 / 100)
    found = epsilon_lower_bound(0.0, right=100, guesses=100, canaries=100, confidence=0.95)
    assert found == pytest.approx(math.log(share / (1 - share)), abs=1e-9)


def test_more_right_guesses_bound_more_and_more_confidence_less() -> None:
    def bound(right: int, confidence: float) -> float:
        return epsilon_lower_bound(1e-5, right=right, guesses=200, canaries=1000, confidence=confidence)

    rising = [bound(right, 0.95) for right in range(0, 201, 10)]
    assert rising == sorted(rising)
    assert rising[0] == 0.0
    assert rising[-1] > 2
    falling = [bound(190, confidence) for confidence in (0.5, 0.9, 0.99, 0.999)]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > falling[-1]


def test_randomised_response_is_rarely_bounded_above_its_epsilon() -> None:
    """A guess is right with chance e^ε / (1 + e^ε): the worst that pure differential privacy allows."""
    epsilon, generator = 1.0, np.random.default_rng(5)
    counts = generator.binomial(300, 1 / (1 + math.exp(-epsilon)), size=300)
    known = {
        count: epsilon_lower_bound(0.0, right=count, guesses=300, canaries=300, confidence=0.9)
        for count in set(counts.tolist())
    }
    above = np.mean([known[count] > epsilon for count in counts.tolist()])
    # 0.1 at most; five deviations of 300 draws beyond it. And not never: the bound is tight here.
    assert 0 < above <= 0.1 + 5 * math.sqrt(0.09 / 300)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"right": 11}, "0 <= right <= guesses <= canaries"),
        ({"guesses": 0, "right": 0}, "one guess at least"),
        ({"canaries": 9}, "got 5, 10 and 9"),
        ({"confidence": 1.0}, "confidence must be above 0 and below 1, got 1"),
    ],
)
def test_counts_out_of_range_are_refused(changed: dict[str, float], said: str) -> None:
    asked = {"right": 5, "guesses": 10, "canaries": 20, "confidence": 0.9} | changed
    with pytest.raises(UsageError, match=said):
        epsilon_lower_bound(1e-5, **asked)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="delta must be from 0, below 1, got 1"):
        epsilon_lower_bound(1.0, right=5, guesses=10, canaries=20, confidence=0.9)
