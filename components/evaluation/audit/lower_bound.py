"""A lower bound on epsilon from right guesses about one training, whatever the mechanism.

Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run", NeurIPS, arXiv:2305.08846,
Theorem 5.2. m canaries are included by a fair coin each, and r of them are guessed. Under
(epsilon, delta)-DP for adding or removing one, with W ~ Binomial(r, e^epsilon / (1 + e^epsilon)),

    P[v or more are right]  <=  P[W >= v] + 2 m delta max over i = 1 … m of P[v > W >= v - i] / i.

Without delta a guess is right like a coin of randomised response at best; what delta adds is that a few
canaries may be given away wholly.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.errors import UsageError
from components.evaluation.audit.gaussian_bound import require_counts

_LARGEST_EPSILON: Final = 60.0
_STEPS: Final = 50


def p_value(epsilon: float, delta: float, *, right: int, guesses: int, canaries: int) -> float:
    """Largest chance of so many right guesses under (epsilon, delta)-DP, at most 1.

    Args:
        epsilon: from 0.
        delta: from 0, below 1.
        right: v, from 0 to r.
        guesses: r, fixed beforehand, from 1 to m.
        canaries: m.
    """
    chances = _binomial(guesses, epsilon)
    tail = float(chances[right:].sum())
    below = np.cumsum(chances[:right][::-1]) / np.arange(1, right + 1)
    return min(1.0, tail + 2 * canaries * delta * float(below.max(initial=0.0)))


def epsilon_lower_bound(delta: float, *, right: int, guesses: int, canaries: int, confidence: float) -> float:
    """Largest epsilon that these guesses contradict at delta, rounded down; 0 if they contradict none.

    A mechanism that is (epsilon, delta)-private gives a bound above epsilon in at most 1 - confidence of
    all audits.

    Raises:
        UsageError: counts, delta or confidence are out of their range.
    """
    require_counts(right, guesses, canaries, confidence)
    if not 0 <= delta < 1:
        raise UsageError(f"delta must be from 0, below 1, got {delta:g}")
    tail = 1 - confidence

    def contradicted(epsilon: float) -> bool:
        return p_value(epsilon, delta, right=right, guesses=guesses, canaries=canaries) <= tail

    if not contradicted(0.0):
        return 0.0
    low, high = 0.0, _LARGEST_EPSILON
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if contradicted(middle) else (low, middle)
    return low


def _binomial(draws: int, epsilon: float) -> NDArray[np.float64]:
    """Chances of 0 to `draws` successes of chance e^epsilon / (1 + e^epsilon) each."""
    log_right = -math.log1p(math.exp(-epsilon))
    factorials = _log_factorials(draws)
    counts = np.arange(draws + 1)
    chances: NDArray[np.float64] = np.exp(
        (factorials[-1] - factorials - factorials[::-1])
        + counts * log_right
        + (draws - counts) * (log_right - epsilon)
    )
    return chances


@lru_cache(maxsize=16)
def _log_factorials(most: int) -> NDArray[np.float64]:
    return np.array([math.lgamma(number + 1) for number in range(most + 1)])
