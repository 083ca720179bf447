from __future__ import annotations

import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import UsageError
from components.privacy.accounting import ZcdpAccountant
from components.privacy.allowance import Budget, rounds_left
from components.privacy.mechanism import SumMechanism
from components.privacy.schedule import PrivacyTerms, noise_multipliers, rounds_for
from components.privacy.zcdp import rho_for


def terms(**changes: Any) -> PrivacyTerms:
    values: dict[str, Any] = {
        "target_epsilon": 2.0,
        "delta": 1e-5,
        "public_population": 50_000,
        "clipping_norm": 1.0,
        "rounds": "auto",
        "min_sum_sites": 3,
        "colluding_sites": 1,
    }
    return PrivacyTerms(**{**values, **changes})


@given(
    st.floats(min_value=0.001, max_value=1000),
    st.one_of(st.just("auto"), st.integers(2, 300)),
    st.sampled_from([0.0, 0.2, 0.9]),
    st.integers(1, 50),
)
def test_all_rounds_together_cost_the_target_and_no_more(
    target: float, rounds: int | Literal["auto"], start: float, rows: int
) -> None:
    made = terms(target_epsilon=target, rounds=rounds, start_fraction=start, rows_per_unit=rows)
    sigmas = noise_multipliers(made)
    assert len(sigmas) == made.num_rounds
    cost = math.fsum(rows**2 / (2 * sigma**2) for sigma in sigmas)
    most = rho_for(target, 1e-5)
    assert cost <= most
    # Six decimals are lost where sigma is small.
    assert cost >= most * (1 - 5e-6 / min(sigmas) - 1e-9)


def test_a_schedule_as_mechanisms_fits_its_budget_exactly_once() -> None:
    made = terms(target_epsilon=8.0, rounds=12, start_fraction=0.2)
    events = [
        SumMechanism(
            clipping_norm=1.0,
            noise_multiplier=sigma,
            dimensions=29645,
            sites=4,
            min_sum_sites=3,
            colluding_sites=1,
        ).event()
        for sigma in noise_multipliers(made)
    ]
    assert 7.9999 < ZcdpAccountant().epsilon(events, 1e-5) <= 8.0
    budget = Budget(epsilon=8.0, delta=1e-5)
    assert rounds_left([], events, budget) == 12
    assert rounds_left(events, events, budget) == 0


def test_the_start_has_its_share() -> None:
    first, *rest = noise_multipliers(terms(rounds=11, start_fraction=0.2))
    rho = rho_for(2.0, 1e-5)
    assert 1 / (2 * first**2) == pytest.approx(0.2 * rho, rel=1e-5)
    assert len(set(rest)) == 1
    assert 1 / (2 * rest[0] ** 2) == pytest.approx(0.08 * rho, rel=1e-5)


def test_sigma_of_one_round_is_the_closed_form_with_six_decimals() -> None:
    (sigma,) = noise_multipliers(terms(target_epsilon=1.0, rounds=1))
    assert sigma == 4.045131 == math.ceil(1e6 / math.sqrt(2 * rho_for(1.0, 1e-5))) / 1e6


@pytest.mark.parametrize(
    ("target", "rounds"), [(0.5, 10), (0.99, 10), (1, 20), (2, 20), (3.9, 20), (4, 40), (8, 40)]
)
def test_auto_follows_epsilon(target: float, rounds: int) -> None:
    assert rounds_for(target) == rounds == terms(target_epsilon=target).num_rounds


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"target_epsilon": 0.0}, "target_epsilon must be from 0.001 to 1000, got 0.0"),
        ({"target_epsilon": -1.0}, "target_epsilon must be"),
        ({"target_epsilon": math.nan}, "target_epsilon must be"),
        ({"delta": 1 / 50_000}, "delta must be above 0 and below 1/public_population, 2e-05, got 2e-05"),
        ({"delta": 0.0}, "delta must be above 0"),
        ({"public_population": 0}, "public_population must be at least 1, got 0"),
        ({"clipping_norm": None}, "clipping_norm is missing"),
        ({"clipping_norm": 0.0}, "clipping_norm must be above 0"),
        ({"colluding_sites": 2}, "min_sum_sites less colluding_sites must be at least 2, got 3 - 2"),
        ({"rounds": 0}, "rounds must be from 1 to 100000 or 'auto', got 0"),
        ({"rounds": 2.5}, "rounds must be"),
        ({"rounds": True}, "rounds must be"),
        ({"start_fraction": 1.0}, "start_fraction must be from 0, below 1, got 1.0"),
        ({"start_fraction": 0.2, "rounds": 1}, "start_fraction is 0.2, but the start is the only round"),
        ({"rows_per_unit": 0}, "rows_per_unit must be at least 1, got 0"),
    ],
)
def test_bad_terms_are_refused_in_one_line(changes: dict[str, Any], problem: str) -> None:
    (found,) = terms(**changes).problems()
    assert found.startswith(problem)
    assert "\n" not in found
    with pytest.raises(UsageError, match=r"^.+$"):
        noise_multipliers(terms(**changes))


def test_all_problems_are_told_at_once() -> None:
    bad = terms(target_epsilon=-1.0, delta=1.0, clipping_norm=None, colluding_sites=2)
    assert len(bad.problems(Budget(epsilon=-1.0, delta=1e-5))) == 5
    with pytest.raises(UsageError) as refused:
        noise_multipliers(bad)
    assert len(str(refused.value).splitlines()) == 4


class TestBudget:
    def test_one_that_holds_a_round_is_enough(self) -> None:
        made = terms(rounds=20)
        (sigma, *_) = noise_multipliers(made)
        assert made.problems(Budget(epsilon=2.0, delta=1e-5, per="month")) == []
        assert made.problems(Budget(epsilon=0.4, delta=1e-5)) == []
        assert 1 / (2 * sigma**2) < rho_for(0.4, 1e-5)

    def test_one_below_the_cost_of_a_round_is_refused(self) -> None:
        (problem,) = terms(rounds=20).problems(Budget(epsilon=0.3, delta=1e-5))
        assert problem.startswith("budget: epsilon 0.3 is below the cost of one round, 0.39")
