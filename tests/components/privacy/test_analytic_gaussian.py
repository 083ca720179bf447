from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import UsageError
from components.privacy.analytic_gaussian import gaussian_delta, gaussian_epsilon, gaussian_sigma

deltas = st.sampled_from([1e-12, 1e-8, 1e-5, 1e-2])


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 3.7, 25.0, 900.0])
@pytest.mark.parametrize("delta", [1e-10, 1e-5, 1e-3])
def test_epsilon_is_that_of_dp_accounting(sigma: float, delta: float) -> None:
    from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

    assert gaussian_epsilon(sigma, delta) == pytest.approx(get_epsilon_gaussian(sigma, delta), rel=1e-7)


@pytest.mark.parametrize("target", [0.1, 0.5, 1.0, 2.0, 8.0, 50.0])
def test_sigma_is_that_of_dp_accounting(target: float) -> None:
    from dp_accounting.gaussian_mechanism import get_sigma_gaussian

    assert gaussian_sigma(target, 1e-5) == pytest.approx(get_sigma_gaussian(target, 1e-5), rel=1e-9)


@pytest.mark.parametrize(
    ("target", "expected"), [(0.5, 7.031827), (1, 3.730632), (2, 1.993812), (4, 1.081162), (8, 0.600229)]
)
def test_known_values(target: float, expected: float) -> None:
    """At delta = 1e-5."""
    assert gaussian_sigma(target, 1e-5) == pytest.approx(expected, abs=1e-6)


def test_delta_at_zero_is_the_total_variation_distance() -> None:
    for sigma in (0.1, 1.0, 30.0):
        assert gaussian_delta(sigma, 0.0) == pytest.approx(
            math.erf(1 / (2 * math.sqrt(2) * sigma)), rel=1e-12
        )


@given(st.floats(min_value=0.01, max_value=300), deltas)
def test_one_is_the_inverse_of_the_other(sigma: float, delta: float) -> None:
    spent = gaussian_epsilon(sigma, delta)
    if spent > 1e-3:
        assert gaussian_sigma(spent, delta) == pytest.approx(sigma, rel=1e-6)
    assert gaussian_delta(sigma, spent) <= delta * (1 + 1e-9)


@pytest.mark.parametrize(("sigma", "delta"), [(0.0, 1e-5), (1e10, 1e-5), (math.nan, 1e-5), (1.0, 0.0)])
def test_epsilon_refuses(sigma: float, delta: float) -> None:
    with pytest.raises(UsageError, match=r"(sigma|delta) must be"):
        gaussian_epsilon(sigma, delta)


@pytest.mark.parametrize(("target", "delta"), [(0.0, 1e-5), (math.inf, 1e-5), (1.0, 1.0), (1e7, 1e-5)])
def test_sigma_refuses(target: float, delta: float) -> None:
    with pytest.raises(UsageError, match="epsilon"):
        gaussian_sigma(target, delta)
