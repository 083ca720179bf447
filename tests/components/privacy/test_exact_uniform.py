from __future__ import annotations

import math
import random
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.privacy import exact_uniform
from components.privacy.exact_uniform import (
    ESTIMATE_ERROR,
    Uniform,
    bernoulli_exp,
    estimated_exp,
    exp_bounds,
    geometric_exp,
)


def scripted(*words: int) -> Callable[[int], bytes]:
    """Gives these words in turn, and fails when it is asked for more."""
    rest = list(words)
    return lambda count: b"".join(rest.pop(0).to_bytes(8, "little") for _ in range(count // 8))


def nothing_more(count: int) -> bytes:
    raise AssertionError(f"{count} more random bytes were asked for")


def to_digits(exponent: Fraction, digits: int) -> Fraction:
    """exp(-exponent) by decimal's own algorithm."""
    with localcontext() as context:
        context.prec = digits
        return Fraction((-(Decimal(exponent.numerator) / Decimal(exponent.denominator))).exp())


@given(st.floats(min_value=0, max_value=60))
def test_an_estimate_is_within_its_error(exponent: float) -> None:
    estimate = Fraction(float(estimated_exp(np.array([exponent]))[0]))
    assert abs(estimate - to_digits(Fraction(exponent), 50)) < Fraction(ESTIMATE_ERROR)


def test_estimates_near_steps_and_beyond_the_table() -> None:
    steps = np.arange(0, 41 * 32) / 32
    exponents = np.concatenate([steps, np.nextafter(steps, 100), np.nextafter(steps[1:], 0), [1e9, np.inf]])
    for exponent, estimate in zip(exponents[:-2], estimated_exp(exponents)[:-2], strict=True):
        difference = abs(Fraction(float(estimate)) - to_digits(Fraction(float(exponent)), 50))
        assert difference < Fraction(ESTIMATE_ERROR)
    assert estimated_exp(exponents)[-2:].tolist() == [0.0, 0.0]


@given(st.fractions(min_value=0, max_value=30, max_denominator=10**6), st.sampled_from([1, 8, 64, 128, 200]))
def test_bounds_enclose_and_are_as_near_as_asked(exponent: Fraction, bits: int) -> None:
    low, high = exp_bounds(exponent, bits)
    truth = to_digits(exponent, 120)
    slack = Fraction(1, 10**110)
    assert low - slack <= truth <= high + slack
    assert 0 <= high - low <= Fraction(1, 1 << bits)


def test_bounds_of_zero_are_exact_and_of_a_vast_exponent_cheap() -> None:
    assert exp_bounds(Fraction(0), 64) == (Fraction(1), Fraction(1))
    assert exp_bounds(Fraction(10**30), 64) == (Fraction(0), Fraction(1, 2**64))


class TestUniform:
    def test_bits_are_drawn_until_they_decide(self) -> None:
        threshold = to_digits(Fraction(1), 80)
        leading = math.floor(threshold * 2**64)
        following = math.floor(threshold * 2**128) - (leading << 64)
        assert Uniform(leading - 1, nothing_more).below_exp(Fraction(1))
        assert not Uniform(leading + 1, nothing_more).below_exp(Fraction(1))
        assert Uniform(leading, scripted(following - 1)).below_exp(Fraction(1))
        assert not Uniform(leading, scripted(following + 1)).below_exp(Fraction(1))

    def test_every_uniform_number_is_below_one(self) -> None:
        assert Uniform(2**64 - 1, nothing_more).below_exp(Fraction(0))

    def test_the_same_bits_serve_several_comparisons(self) -> None:
        number = Uniform(0, scripted(0, 2**63))
        assert all(number.below_exp(Fraction(v)) for v in range(88))
        assert not number.below_exp(Fraction(90))


@pytest.mark.parametrize("seed", range(3))
def test_the_slow_way_decides_as_the_fast_one(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a margin of 2 every comparison is exact; 64 bits decide all of these."""
    chosen = random.Random(seed + 100)
    exponents = [Fraction(chosen.randrange(3 * 10**9), 10**9) for _ in range(300)]
    floats = np.array([float(each) for each in exponents])
    results = []
    for margin in (exact_uniform.MARGIN, 2.0):
        monkeypatch.setattr(exact_uniform, "MARGIN", margin)
        source = random.Random(seed).randbytes
        results.append((bernoulli_exp(floats, exponents.__getitem__, source), geometric_exp(300, source)))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])
    assert 0 < results[0][0].sum() < 300


def test_a_number_within_the_margin_is_decided_by_the_exact_exponent() -> None:
    leading = math.floor(to_digits(Fraction(1, 2), 80) * 2**64)
    exponents = np.array([0.5, 0.5])
    shifted = [Fraction(1, 2) + Fraction(1, 2**60), Fraction(1, 2) - Fraction(1, 2**60)]
    source = scripted(leading, leading)
    assert bernoulli_exp(exponents, shifted.__getitem__, source).tolist() == [False, True]


def test_geometric_at_its_ends() -> None:
    assert geometric_exp(2, scripted(2**64 - 1, 2**63)).tolist() == [0, 0]
    # Below exp(-44) and not below exp(-45): only the exact way can tell.
    word = math.floor(to_digits(Fraction(445, 10), 60) * 2**128)
    assert geometric_exp(1, scripted(word >> 64, word & (2**64 - 1))).tolist() == [44]


def test_geometric_frequencies() -> None:
    draws = geometric_exp(100_000, random.Random(1).randbytes)
    for v in range(6):
        expected = math.exp(-v)
        assert np.mean(draws >= v) == pytest.approx(expected, abs=5 * math.sqrt(expected / 100_000))
