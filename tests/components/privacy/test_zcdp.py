from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.errors import UsageError
from components.privacy.analytic_gaussian import gaussian_epsilon
from components.privacy.events import Composed, DiscreteGaussianSum
from components.privacy.zcdp import epsilon, excess, release_rho, rho, rho_for

deltas = st.sampled_from([1e-12, 1e-8, 1e-5, 1e-3, 0.1, 0.9])


def release(sigma: float, **changes: int) -> DiscreteGaussianSum:
    values = {"dimensions": 29646, "sites": 10, **changes}
    return DiscreteGaussianSum(noise_multiplier=sigma, share_sigma=4e5, **values)


def bound(rho: float, delta: float, order: float) -> float:
    """Epsilon by one order alpha (Canonne, Kamath and Steinke 2020, corollary 13)."""
    return order * rho + (-math.log(delta) - math.log(order - 1) + order * math.log1p(-1 / order)) / (
        order - 1
    )


class TestEpsilon:
    @given(st.floats(min_value=1e-6, max_value=500), deltas)
    def test_it_is_the_infimum_over_all_orders(self, rho: float, delta: float) -> None:
        """A grid in log(alpha - 1) around the best order: never below, and at most 1e-9 above."""
        found = epsilon(rho, delta)
        scale = math.sqrt(-math.log(delta) / rho)
        grid = [bound(rho, delta, 1 + scale * math.exp(k / 300)) for k in range(-1200, 1201)]
        least = max(0.0, min(grid))
        assert found <= least * (1 + 1e-11) + 1e-12
        # A step of 1/300 in log(alpha - 1) is off by less than 1e-5 of the value.
        assert found >= least * (1 - 1e-5) - 1e-9

    def test_it_is_an_infimum_to_nine_digits(self) -> None:
        for price, delta in ((0.01, 1e-5), (0.5, 1e-5), (20.0, 1e-9)):
            best = epsilon(price, delta)
            scale = math.sqrt(-math.log(delta) / price)
            coarse = min(range(-1000, 1001), key=lambda k: bound(price, delta, 1 + scale * math.exp(k / 500)))
            near = [(coarse + k / 5000) / 500 for k in range(-5000, 5001)]
            fine = min(bound(price, delta, 1 + scale * math.exp(each)) for each in near)
            assert 0 <= best - fine + 1e-10 < 1e-9

    @given(st.floats(min_value=1e-9, max_value=1e3), st.floats(min_value=1.000001, max_value=10), deltas)
    def test_it_grows_with_rho_and_falls_with_delta(self, rho: float, factor: float, delta: float) -> None:
        assert epsilon(rho, delta) <= epsilon(rho * factor, delta)
        assert epsilon(rho, delta) >= epsilon(rho, min(delta * factor, 0.99))

    @given(st.floats(min_value=0.05, max_value=50), st.sampled_from([1e-10, 1e-6, 1e-5, 1e-3]))
    def test_it_is_never_below_the_gaussians_exact_cost(self, sigma: float, delta: float) -> None:
        exact = gaussian_epsilon(sigma, delta)
        found = epsilon(1 / (2 * sigma**2), delta)
        assert exact <= found <= 1.5 * exact + 0.05

    def test_of_the_rdp_accountant_it_is_the_limit(self) -> None:
        """dp_accounting converts the same divergences on a grid of orders."""
        from dp_accounting import GaussianDpEvent, rdp

        for sigma in (0.6, 1.0, 4.0, 20.0):
            orders = [1 + math.exp(k / 50) for k in range(-200, 400)]
            accountant = rdp.RdpAccountant(orders).compose(GaussianDpEvent(sigma), 5)
            theirs, ours = accountant.get_epsilon(1e-5), epsilon(5 / (2 * sigma**2), 1e-5)
            assert ours <= theirs + 1e-9
            assert ours == pytest.approx(theirs, rel=1e-4)

    def test_ends(self) -> None:
        assert epsilon(0.0, 1e-5) == 0
        assert epsilon(1e-14, 1e-5) < 1e-6
        assert epsilon(1e6, 1e-5) > 1e6
        assert epsilon(math.inf, 1e-5) == math.inf

    @pytest.mark.parametrize(("rho", "delta"), [(-1.0, 1e-5), (math.nan, 1e-5), (1.0, 0.0), (1.0, 1.0)])
    def test_refusals(self, rho: float, delta: float) -> None:
        with pytest.raises(UsageError, match=r"(rho|delta) must be"):
            epsilon(rho, delta)


class TestRhoFor:
    @given(st.floats(min_value=1e-3, max_value=1000), deltas)
    def test_it_is_the_inverse_on_the_safe_side(self, target: float, delta: float) -> None:
        found = rho_for(target, delta)
        assert epsilon(found, delta) <= target < epsilon(found * (1 + 1e-8), delta)

    @pytest.mark.parametrize(("target", "delta"), [(0.0, 1e-5), (-1.0, 1e-5), (math.nan, 1e-5), (1.0, 1.5)])
    def test_refusals(self, target: float, delta: float) -> None:
        with pytest.raises(UsageError, match=r"(epsilon|delta) must be"):
            rho_for(target, delta)


def discrete_gaussian_law(sigma: float, reach: int) -> NDArray[np.float64]:
    support = np.arange(-reach, reach + 1, dtype=np.float64)
    law: NDArray[np.float64] = np.exp(-(support**2) / (2 * sigma**2))
    law /= law.sum()
    return law


class TestPrice:
    def test_a_release_costs_what_the_gaussian_costs(self) -> None:
        assert release_rho(release(5.0)) == pytest.approx(1 / 50, rel=1e-15)
        assert release_rho(release(5.0, rows_per_unit=4)) == pytest.approx(16 / 50, rel=1e-15)

    def test_the_term_for_sums_is_the_papers(self) -> None:
        tau = 10 * (math.exp(-(math.pi**2)) + math.exp(-2 * math.pi**2 * 2 / 3))
        assert excess(1.0, 3, 1) == pytest.approx(tau)
        assert excess(1.0, 3, 100) == pytest.approx(10 * tau)
        assert excess(1.0, 1, 100) == 0

    def test_the_term_for_sums_is_negligible_from_sigma_four_on(self) -> None:
        for sites, dimensions in ((3, 30_000), (10, 30_000), (100, 10**8)):
            assert excess(4.0, sites, dimensions) < 1e-60
        assert excess(3.0, 3, 30_000) > 1e-60

    @pytest.mark.parametrize("sigma", [0.5, 0.6, 0.8, 1.0, 2.0])
    @pytest.mark.parametrize("shares", [2, 3, 5])
    def test_exact_divergences_of_sums_are_within_the_price(self, sigma: float, shares: int) -> None:
        """Renyi divergences of the true convolution, shifted by 1 and 3, at three orders."""
        one = discrete_gaussian_law(sigma, math.ceil(14 * sigma))
        law = one
        for _ in range(shares - 1):
            law = np.convolve(law, one)
        for shift in (1, 3):
            central = math.sqrt(shares) * sigma
            made = DiscreteGaussianSum(
                noise_multiplier=central / shift, share_sigma=sigma, dimensions=1, sites=shares
            )
            for order in (1.5, 2.0, 6.0):
                logs = order * np.log(law[shift:]) + (1 - order) * np.log(law[:-shift])
                divergence = math.log(float(np.exp(logs).sum())) / (order - 1)
                assert divergence <= order * release_rho(made) * (1 + 1e-9)

    def test_prices_add_up_in_any_order(self) -> None:
        events = [release(0.1 + k / 7) for k in range(30)]
        assert rho(events) == rho(events[::-1]) == rho([Composed(events=tuple(events))])
        assert rho(events) == pytest.approx(sum(release_rho(each) for each in events))
        assert rho([]) == 0
