from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.privacy.allowance import Budget, rounds_left
from components.privacy.events import DiscreteGaussianSum
from components.privacy.zcdp import rho_for


def release(sigma: float) -> DiscreteGaussianSum:
    return DiscreteGaussianSum(noise_multiplier=sigma, share_sigma=4e5, dimensions=100, sites=4)


@given(
    st.lists(st.floats(min_value=1, max_value=50), max_size=6),
    st.lists(st.floats(min_value=1, max_value=50), max_size=12),
    st.floats(min_value=0.2, max_value=8),
)
def test_rounds_left_is_the_longest_prefix_that_fits(
    before: list[float], after: list[float], allowed: float
) -> None:
    budget = Budget(epsilon=allowed, delta=1e-5)
    spent, upcoming = [release(each) for each in before], [release(each) for each in after]
    most = rho_for(allowed, 1e-5)
    fits = [
        count
        for count in range(len(after) + 1)
        if math.fsum(1 / (2 * each * each) for each in before + after[:count]) <= most * (1 + 1e-12)
    ]
    assert rounds_left(spent, upcoming, budget) == max(fits, default=0)


def test_closed_form_of_equal_rounds() -> None:
    budget = Budget(epsilon=4.0, delta=1e-5)
    count = math.floor(rho_for(4.0, 1e-5) * 2 * 10.0**2)
    assert rounds_left([], [release(10.0)] * 200, budget) == count == 74
    assert rounds_left([release(10.0)] * 70, [release(10.0)] * 200, budget) == 4
    assert rounds_left([release(10.0)] * 80, [release(10.0)], budget) == 0


def test_a_month_is_one_of_the_calendar_in_utc() -> None:
    budget = Budget(epsilon=1.0, delta=1e-5, per="month")
    end = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    assert budget.period(end) == "2026-11"
    assert budget.period(end + timedelta(seconds=1)) == "2026-12"
    assert budget.period(end.astimezone(timezone(timedelta(hours=9)))) == "2026-11"
    assert Budget(epsilon=1.0, delta=1e-5).period(end) == "total"


def test_every_problem_is_told() -> None:
    budget = Budget(epsilon=0.0, delta=1.0, per="week")  # type: ignore[arg-type]
    assert budget.problems() == [
        "epsilon must be from 0.001 to 1000, got 0.0: choose what may be spent",
        "delta must be above 0 and below 1, got 1.0: choose one below 1/population",
        "per must be month or total, got 'week': choose a period",
    ]
    assert Budget(epsilon=1.0, delta=1e-5).problems() == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_numbers_that_are_no_epsilon(value: float) -> None:
    assert len(Budget(epsilon=value, delta=1e-5).problems()) == 1
