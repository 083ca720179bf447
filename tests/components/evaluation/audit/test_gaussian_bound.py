"""The Gaussian bound against mechanisms known exactly, a linear program, and draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from components.errors import UsageError
from components.evaluation.audit.gaussian_bound import is_contradicted, mu_epsilon, mu_lower_bound
from components.evaluation.audit.lower_bound import epsilon_lower_bound
from components.privacy.analytic_gaussian import gaussian_delta


@pytest.mark.parametrize("mu", [0.0, 0.3, 1.0, 2.5])
def test_a_gaussian_mechanism_is_never_contradicted(mu: float) -> None:
    """Every canary alone with noise of deviation 1/μ and guessed by its sign: right with chance Φ(μ/2)."""
    guesses = 60
    law = stats.binom(guesses, stats.norm.cdf(mu / 2))
    for right in range(1, guesses + 1):
        tail = float(law.sf(right - 1))
        if tail > 1e-12:
            assert not is_contradicted(mu, tail, right=right, guesses=guesses, canaries=guesses)


@pytest.mark.parametrize("mu", [0.4, 1.5])
@pytest.mark.parametrize(("right", "guesses", "canaries"), [(8, 8, 8), (7, 8, 12), (12, 12, 30)])
def test_it_is_the_most_that_a_linear_program_allows(
    mu: float, right: int, guesses: int, canaries: int
) -> None:
    """Largest P[v or more are right] over all laws under the theorem's inequalities, by their tangents."""
    points = stats.norm.cdf(np.linspace(-7, 7, 700))
    values = stats.norm.cdf(stats.norm.ppf(points) + mu)
    slopes = np.exp(-mu * stats.norm.ppf(points) - mu * mu / 2)
    counts, rows, limits = np.arange(guesses + 1), [], []
    for least in range(1, right + 1):
        along = np.where(counts >= least, counts, 0) / canaries
        against = np.where((counts >= least - 1) & (counts < guesses), guesses - counts, 0) / canaries
        for point, value, slope in zip(points, values, slopes, strict=True):
            rows.append(along - slope * against)
            limits.append(value - slope * point)
    solved = optimize.linprog(
        -(counts >= right).astype(float),
        A_ub=np.array(rows),
        b_ub=np.array(limits),
        A_eq=np.ones((1, guesses + 1)),
        b_eq=[1.0],
    )
    most = -solved.fun
    game = {"right": right, "guesses": guesses, "canaries": canaries}
    # Tangents leave a little more room than the curve.
    assert is_contradicted(mu, most * 1.001, **game)
    assert not is_contradicted(mu, most * 0.98, **game)


def test_draws_of_a_gaussian_mechanism_are_rarely_bounded_above_it() -> None:
    mu, canaries, guesses, generator = 1.0, 400, 80, np.random.default_rng(3)
    above, bounds = 0, []
    for _ in range(100):
        included = generator.random(canaries) < 0.5
        order = np.argsort(generator.standard_normal(canaries) + mu * included)
        right = int((~included[order[:40]]).sum() + included[order[-40:]].sum())
        bounds.append(mu_lower_bound(right=right, guesses=guesses, canaries=canaries, confidence=0.9))
        above += bounds[-1] > mu
    assert above <= 10 + 5 * math.sqrt(9)
    assert np.median(bounds) > 0.4


def test_it_sees_more_than_the_bound_for_any_mechanism() -> None:
    counts = {"right": 700, "guesses": 960, "canaries": 7680}
    gaussian = mu_epsilon(mu_lower_bound(**counts, confidence=0.9), 1e-5)
    assert gaussian > 1.2 * epsilon_lower_bound(1e-5, **counts, confidence=0.9) > 0


def test_more_right_guesses_bound_more_and_more_confidence_less() -> None:
    def bound(right: int, confidence: float) -> float:
        return mu_lower_bound(right=right, guesses=120, canaries=600, confidence=confidence)

    rising = [bound(right, 0.95) for right in range(0, 121, 8)]
    assert rising == sorted(rising)
    assert rising[0] == 0.0
    assert rising[-1] > 0.9
    falling = [bound(110, confidence) for confidence in (0.5, 0.9, 0.99, 0.999)]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > falling[-1]


def test_mu_becomes_epsilon_by_the_exact_formula() -> None:
    assert gaussian_delta(1 / 1.3, mu_epsilon(1.3, 1e-5)) == pytest.approx(1e-5, rel=1e-6)
    assert mu_epsilon(0.0, 1e-5) == 0.0


def test_counts_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="got 5, 4 and 20"):
        mu_lower_bound(right=5, guesses=4, canaries=20, confidence=0.9)
