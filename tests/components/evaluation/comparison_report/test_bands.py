"""Bands against the closed forms of Student's t with one and two degrees of freedom."""

from __future__ import annotations

import math

import numpy as np
import pytest

from components.evaluation.comparison_report.bands import Band, band, paired


def test_two_values_use_the_quantile_of_the_cauchy_distribution() -> None:
    # t with one degree of freedom is Cauchy: its quantile is tan(π(p − ½)); s/√n of 0 and 2 is 1.
    found = band([0.0, 2.0])
    assert found.mean == 1.0
    assert found.half_width == pytest.approx(math.tan(0.475 * math.pi), rel=1e-9)


def test_three_values_use_the_closed_form_of_two_degrees_of_freedom() -> None:
    # t = (2p − 1)/√(2p(1 − p)); the deviation of 1, 2, 3 is 1.
    found = band([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(0.95 / math.sqrt(2 * 0.975 * 0.025) / math.sqrt(3), rel=1e-9)
    assert (found.low, found.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)


def test_a_band_holds_the_true_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2000, 4))
    held = sum(band(row.tolist()).contains(3.0) for row in draws)
    # Four deviations of a binomial share: 4·√(0.95·0.05/2000) = 0.0195.
    assert abs(held / 2000 - 0.95) < 0.0195


def test_one_value_has_no_band_and_none_has_no_mean() -> None:
    assert band([0.5]) == Band(mean=0.5, half_width=None, count=1)
    assert band([0.5]).contains(0.5)
    with pytest.raises(ValueError, match="at least one value"):
        band([])


def test_only_seeds_that_both_have_are_paired() -> None:
    first, second = {3: 0.5, 1: 0.25, 2: 1.0}, {1: 0.5, 3: 0.125, 4: 1.0}
    assert paired(first, second) == [-0.25, 0.375]
    assert paired(first, second, factor=2.0) == [-0.75, 0.25]
