from __future__ import annotations

import math
import random
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from components.errors import UsageError
from components.privacy import exact_uniform
from components.privacy.discrete_gaussian import discrete_gaussian

DRAWS = 60_000


def seeded(seed: int, variance: Fraction | float, size: int = DRAWS) -> NDArray[np.int64]:
    return discrete_gaussian(variance, size, random.Random(seed).randbytes)


def chi_square(observed: NDArray[np.float64], probabilities: NDArray[np.float64]) -> float:
    """The statistic in units of its deviation above its mean; beyond 5 about once in 10^5."""
    expected = probabilities * observed.sum()
    freedom = observed.size - 1
    statistic = float(np.sum((observed - expected) ** 2 / expected))
    return (statistic - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize(
    "variance", [Fraction(1, 20), 0.3, 1, Fraction(5, 2), 4, 15.999, Fraction(100, 3), 40.0, 1000]
)
def test_frequencies_are_the_exact_probabilities(variance: Fraction | float) -> None:
    draws = seeded(11, variance)
    reach = math.ceil(12 * math.sqrt(variance)) + 2
    support = np.arange(-reach, reach + 1)
    probabilities = np.exp(-(support**2) / (2 * float(variance)))
    probabilities /= probabilities.sum()
    counts = np.array([np.count_nonzero(draws == value) for value in support], np.float64)
    assert counts.sum() == DRAWS
    # Values expected fewer than 20 times share one cell.
    common = probabilities * DRAWS >= 20
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(probabilities[common], probabilities[~common].sum())
    if expected[-1] * DRAWS < 1:
        observed, expected = observed[:-1], expected[:-1]
    assert abs(chi_square(observed, expected)) < 5


@pytest.mark.parametrize("sigma", [2**10 + 0.5, 2.0**27 * 1.17, 2.0**40])
def test_large_draws_are_gaussian_down_to_their_low_bits(sigma: float) -> None:
    draws = seeded(12, Fraction(sigma) ** 2)
    edges = [NormalDist(0, sigma).inv_cdf(k / 40) for k in range(1, 40)]
    counts = np.bincount(np.searchsorted(edges, draws), minlength=40).astype(np.float64)
    assert abs(chi_square(counts, np.full(40, 1 / 40))) < 5
    low_bits = np.bincount(draws & 63, minlength=64).astype(np.float64)
    assert abs(chi_square(low_bits, np.full(64, 1 / 64))) < 5


@pytest.mark.parametrize("variance", [0.5, 4, 2.0**40])
def test_moments(variance: float) -> None:
    """Of the exact law, by summation; beyond sigma = 8 those of the Gaussian."""
    draws = seeded(13, variance) / math.sqrt(variance)
    support = np.arange(-200, 201) / math.sqrt(variance)
    law = np.exp(-(support**2) / 2)
    second, fourth = (float(np.sum(law * support**k) / law.sum()) for k in (2, 4))
    if variance > 64:
        second, fourth = 1.0, 3.0
    assert abs(draws.mean()) < 5 * math.sqrt(second / DRAWS)
    assert abs(np.mean(draws**3)) < 5 * math.sqrt(15 / DRAWS)
    assert np.mean(draws**2) == pytest.approx(second, abs=5 * math.sqrt((fourth - second**2) / DRAWS))
    assert np.mean(draws**4) == pytest.approx(fourth, abs=5 * math.sqrt(96 / DRAWS))


@pytest.mark.parametrize("variance", [Fraction(7, 3), 2.0**41])
def test_draws_do_not_depend_on_the_way_they_were_decided(
    variance: Fraction | float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = seeded(14, variance, 200)
    monkeypatch.setattr(exact_uniform, "MARGIN", 2.0)
    assert np.array_equal(fast, seeded(14, variance, 200))


def test_neighbouring_draws_are_independent() -> None:
    draws = seeded(15, 2.0**30) / 2.0**15
    assert abs(np.mean(draws[1:] * draws[:-1])) < 5 / math.sqrt(DRAWS)
    assert abs(np.mean(np.abs(draws[1:]) * np.abs(draws[:-1])) - 2 / math.pi) < 5 / math.sqrt(DRAWS)


def test_sizes_and_a_source_of_its_own() -> None:
    assert discrete_gaussian(9, 0).shape == (0,)
    first, second = discrete_gaussian(2.0**60, 100_003), discrete_gaussian(2.0**60, 100_003)
    assert first.shape == (100_003,)
    assert first.dtype == np.int64
    assert np.mean(first == second) < 0.01


def test_noise_far_below_one_is_zero_as_it_should_be() -> None:
    assert not seeded(16, Fraction(1, 2**40), 1000).any()


@pytest.mark.parametrize("variance", [0, -1, Fraction(1, 2**65), 2.0**85, math.inf, math.nan])
def test_variances_out_of_range_are_refused(variance: float) -> None:
    with pytest.raises(UsageError, match=r"variance must be from 2\^-64 to 2\^84, got"):
        discrete_gaussian(variance, 1)
