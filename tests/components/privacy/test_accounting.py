from __future__ import annotations

import sys

import pytest

from components.errors import UsageError
from components.privacy.accounting import Accountant, PldAccountant, ZcdpAccountant, pld_epsilon
from components.privacy.analytic_gaussian import gaussian_epsilon
from components.privacy.schedule import PrivacyTerms, noise_multipliers
from tests.components.privacy.accountant_contract import AccountantContract, release


class TestZcdpAccountant(AccountantContract):
    slack = 0.2

    def accountant(self) -> Accountant:
        return ZcdpAccountant()


class TestPldAccountant(AccountantContract):
    slack = 1e-4

    def accountant(self) -> Accountant:
        return PldAccountant()


@pytest.mark.parametrize("target", [0.5, 2.0, 8.0])
def test_exact_numerical_and_proved_costs_of_a_schedule_are_in_this_order(target: float) -> None:
    terms = PrivacyTerms(
        target_epsilon=target,
        delta=1e-5,
        public_population=50_000,
        clipping_norm=1.0,
        rounds=20,
        min_sum_sites=3,
        colluding_sites=1,
    )
    sigmas = noise_multipliers(terms)
    events = [release(sigma) for sigma in sigmas]
    exact = gaussian_epsilon(1 / sum(sigma**-2 for sigma in sigmas) ** 0.5, 1e-5)
    numerical = pld_epsilon(events, 1e-5)
    proved = ZcdpAccountant().epsilon(events, 1e-5)
    assert exact - 1e-9 <= numerical <= exact * (1 + 1e-5)
    assert numerical < proved <= target


def test_without_the_package_a_numerical_price_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(UsageError, match=r"pip install dp-accounting==0\.6\.0"):
        pld_epsilon([release(1.0)], 1e-5)
