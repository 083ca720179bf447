from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from components.errors import UsageError
from components.privacy.accounting import (
    Accountant,
    LedgerAccountant,
    PldAccountant,
    ZcdpAccountant,
    ledger_epsilon,
    pld_epsilon,
)
from components.privacy.analytic_gaussian import gaussian_epsilon
from components.privacy.events import Composed, Event, LocalSgd
from components.privacy.schedule import PrivacyTerms, noise_multipliers
from tests.components.privacy.accountant_contract import AccountantContract, release


class TestZcdpAccountant(AccountantContract):
    slack = 0.2

    def accountant(self) -> Accountant:
        return ZcdpAccountant()


class TestLedgerAccountant(AccountantContract):
    slack = 0.2

    def accountant(self) -> Accountant:
        return LedgerAccountant()


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


class TestLocalSgd:
    """DP-SGD beside opacus' accountant, which composes privacy loss variables in another way (PRV)."""

    EVENT = LocalSgd(noise_multiplier=1.5, sample_rate=0.25, steps=40)

    @pytest.mark.parametrize(
        ("sigma", "rate", "steps"), [(0.9, 0.25, 12), (1.6, 0.25, 80), (4.0, 0.25, 12), (12.0, 0.05, 2000)]
    )
    def test_costs_what_opacus_says(self, sigma: float, rate: float, steps: int) -> None:
        from components.training.local_training.dp_sgd import epsilon_spent

        event = LocalSgd(noise_multiplier=sigma, sample_rate=rate, steps=steps)
        found = ledger_epsilon([event], 1e-5)
        # Both are upper bounds, each within half a per cent of the truth.
        assert found == pytest.approx(
            epsilon_spent(sigma, sample_rate=rate, steps=steps, delta=1e-5), rel=5e-3
        )

    def test_that_draws_all_rows_is_the_gaussian_mechanism(self) -> None:
        event = LocalSgd(noise_multiplier=8.0, sample_rate=1.0, steps=16)
        assert ledger_epsilon([event], 1e-5) == pytest.approx(gaussian_epsilon(2.0, 1e-5), rel=1e-3)

    def test_costs_the_same_in_one_piece_or_several(self) -> None:
        parts = [replace(self.EVENT, steps=steps) for steps in (4, 30, 6)]
        nested = Composed(events=(parts[0], Composed(events=(parts[1], parts[2]))))
        whole = ledger_epsilon([self.EVENT], 1e-5)
        assert ledger_epsilon(parts, 1e-5) == ledger_epsilon([nested], 1e-5) == whole

    def test_beside_sums_both_are_paid_for(self) -> None:
        sums = [release(4.0), release(4.0)]
        both = ledger_epsilon([*sums, self.EVENT], 1e-5)
        halves = ledger_epsilon(sums, 5e-6) + ledger_epsilon([self.EVENT], 5e-6)
        drawing_all = ZcdpAccountant().epsilon([*sums, self.EVENT], 1e-5)
        assert both == min(halves, drawing_all)
        assert both > max(ledger_epsilon(sums, 1e-5), ledger_epsilon([self.EVENT], 1e-5))

    def test_that_spends_much_beside_a_sum_is_priced_by_the_cheaper_rule(self) -> None:
        """Where all rows are drawn anyway, zCDP adds up better than epsilons do."""
        events: list[Event] = [release(2.0), LocalSgd(noise_multiplier=2.0, sample_rate=1.0, steps=1)]
        assert ledger_epsilon(events, 1e-5) == ZcdpAccountant().epsilon([release(2.0), release(2.0)], 1e-5)


def test_without_the_package_a_numerical_price_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(UsageError, match=r"pip install 'crosscloud\[comparison\]'"):
        pld_epsilon([release(1.234567)], 1e-5)
