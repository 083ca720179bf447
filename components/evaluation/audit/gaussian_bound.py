"""A lower bound on mu from right guesses about one training, for Gaussian trade-off functions.

Mahloujifar, Melis and Chaudhuri 2024, "Auditing f-Differential Privacy in One Run", arXiv:2410.22235,
Theorem 8 (their k-ary game with k = 2). m canaries are included by a fair coin each, and r of them are
guessed. Let p_t be the chance that t guesses are right. If the mechanism is f-DP for adding or removing one
canary and F = 1 - f, then for every set T of counts

    (1/m) sum over t in T of t p_t  <=  F((1/m) sum over t in T of (r - t + 1) p_(t-1)).

For one canary and fixed coins of the others, f-DP says P[its guess is right, t right in all] <= F(the same
event with its coin turned). There the guess is wrong and t - 1 are right in all. F is concave, so the
average over canaries and coins obeys the same inequality (Jensen): canary after canary gives the sum.

With W = sum over t >= c of t p_t and D = sum over t >= c of (r - t) p_t, T = {c, …, r} says

    D + (r - c + 1) p_(c-1)  >=  m F^-1(W / m),

which is a least p_(c-1). Every least step down keeps the whole mass least (W and D only grow with p_t of
before, W at least by c / (r - c) of what D does). So if P[v or more are right] were tau, the chances would
add up to at least the mass found by stepping down from p_v = tau; more than 1 is a contradiction.

mu-GDP (Dong, Roth and Su 2022, "Gaussian Differential Privacy", JRSS B): F^-1(y) = Phi(Phi^-1(y) - mu).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

from components.errors import UsageError
from components.privacy.analytic_gaussian import gaussian_epsilon

_NORMAL: Final = NormalDist()
_LARGEST_MU: Final = 64.0
_STEPS: Final = 40
_ROOT2: Final = math.sqrt(2)


def is_contradicted(mu: float, tail: float, *, right: int, guesses: int, canaries: int) -> bool:
    """Whether no mu-GDP mechanism lets so many guesses be right with a chance of `tail`.

    Args:
        mu: from 0.
        tail: supposed chance of `right` or more right guesses, above 0, at most 1.
        right: v, from 0 to r.
        guesses: r, fixed beforehand, from 1 to m.
        canaries: m.
    """
    along, against = right * tail, (guesses - right) * tail
    mass = tail
    for count in range(right, 0, -1):
        needed = canaries * _turned(along / canaries, mu)
        if needed > against:
            step = (needed - against) / (guesses - count + 1)
            against = needed
            along += (count - 1) * step
            mass += step
            if mass > 1:
                return True
    return False


def mu_lower_bound(*, right: int, guesses: int, canaries: int, confidence: float) -> float:
    """Largest mu that these guesses contradict, rounded down; 0 if they contradict none.

    A mechanism that is mu-GDP gives a bound above mu in at most 1 - confidence of all audits.

    Raises:
        UsageError: counts or confidence are out of their range.
    """
    require_counts(right, guesses, canaries, confidence)
    tail = 1 - confidence
    if not is_contradicted(0.0, tail, right=right, guesses=guesses, canaries=canaries):
        return 0.0
    low, high = 0.0, _LARGEST_MU
    for _ in range(_STEPS):
        middle = (low + high) / 2
        found = is_contradicted(middle, tail, right=right, guesses=guesses, canaries=canaries)
        low, high = (middle, high) if found else (low, middle)
    return low


def mu_epsilon(mu: float, delta: float) -> float:
    """Epsilon at delta of mu-GDP: what one Gaussian release with noise 1 / mu costs; 0 for mu 0."""
    return gaussian_epsilon(1 / mu, delta) if mu > 1e-9 else 0.0


def require_counts(right: int, guesses: int, canaries: int, confidence: float) -> None:
    """Passes counts of a game, and a confidence.

    Raises:
        UsageError: they are out of their range.
    """
    if not (0 <= right <= guesses <= canaries and guesses >= 1):
        raise UsageError(
            "an audit has 0 <= right <= guesses <= canaries and one guess at least, "
            f"got {right}, {guesses} and {canaries}"
        )
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must be above 0 and below 1, got {confidence:g}")


def _turned(share: float, mu: float) -> float:
    """F^-1(y) = Phi(Phi^-1(y) - mu), with the relative precision of erfc in the tail."""
    if share <= 0:
        return 0.0
    if share >= 1:
        return 1.0
    return math.erfc((mu - _NORMAL.inv_cdf(share)) / _ROOT2) / 2
