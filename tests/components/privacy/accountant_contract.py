"""What every accountant promises; the tests of each inherit it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import pytest

from components.errors import UsageError
from components.privacy.accounting import Accountant
from components.privacy.analytic_gaussian import gaussian_epsilon
from components.privacy.events import Composed, DiscreteGaussianSum


def release(sigma: float, rows: int = 1) -> DiscreteGaussianSum:
    return DiscreteGaussianSum(
        noise_multiplier=sigma, share_sigma=4e5, dimensions=29646, sites=4, rows_per_unit=rows
    )


class AccountantContract(ABC):
    """Subclasses say which accountant, and how far above the exact cost it may be."""

    slack: float

    @abstractmethod
    def accountant(self) -> Accountant:
        """The accountant under test."""

    def test_nothing_costs_nothing(self) -> None:
        assert self.accountant().epsilon([], 1e-5) == 0
        assert self.accountant().epsilon([Composed(events=())], 1e-5) == 0

    @pytest.mark.parametrize(
        ("events", "sigma"),
        [
            ([release(4.0)], 4.0),
            ([release(6.0)] * 9, 2.0),
            ([release(5.0), release(5.0, rows=3), release(2.0)], 1 / math.sqrt(10 / 25 + 1 / 4)),
            ([release(8.0, rows=4)], 2.0),
        ],
    )
    def test_the_cost_is_at_least_and_nearly_the_exact_one(
        self, events: list[DiscreteGaussianSum], sigma: float
    ) -> None:
        for delta in (1e-6, 1e-3):
            exact = gaussian_epsilon(sigma, delta)
            assert exact - 1e-9 <= self.accountant().epsilon(events, delta) <= exact * (1 + self.slack)

    def test_composition_is_the_same_in_any_order_and_nesting(self) -> None:
        first, second = release(3.0), release(7.0)
        flat = self.accountant().epsilon([first, second, second], 1e-5)
        assert self.accountant().epsilon([second, first, second], 1e-5) == pytest.approx(flat, rel=1e-12)
        nested = Composed(events=(second, Composed(events=(second, first))))
        assert self.accountant().epsilon([nested], 1e-5) == pytest.approx(flat, rel=1e-12)

    def test_more_releases_more_rows_and_a_smaller_delta_cost_more(self) -> None:
        def cost(events: list[DiscreteGaussianSum], delta: float = 1e-5) -> float:
            return self.accountant().epsilon(events, delta)

        one = cost([release(5.0)])
        assert one < cost([release(5.0)] * 2)
        assert one < cost([release(5.0, rows=2)])
        assert one < cost([release(5.0)], 1e-7)
        assert one > cost([release(5.5)])

    @pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
    def test_a_delta_out_of_range_is_refused(self, delta: float) -> None:
        with pytest.raises(UsageError, match="delta must be above 0 and below 1"):
            self.accountant().epsilon([release(5.0)], delta)
