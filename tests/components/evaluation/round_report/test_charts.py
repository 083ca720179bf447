"""The geometry of the charts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.round_report.charts import (
    Axis,
    Series,
    heat_level,
    line_chart,
    percent,
    round_ticks,
    share_axis,
    shorten,
    spread,
)

AXIS = Axis(low=0.0, high=1.0, ticks=(0.0, 0.5, 1.0))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_axis_holds_every_share_between_few_round_ticks(shares: list[float]) -> None:
    axis = share_axis(shares)
    assert 0 <= axis.low <= min(shares) + 1e-9
    assert max(shares) - 1e-9 <= axis.high <= 1
    assert axis.low < axis.high
    assert 2 <= len(axis.ticks) <= 7
    assert (axis.ticks[0], axis.ticks[-1]) == (axis.low, axis.high)
    steps = {round(after - before, 9) for before, after in pairwise(axis.ticks)}
    assert len(steps) == 1
    assert steps <= {0.01, 0.02, 0.05, 0.1, 0.2}
    for share in shares:
        assert -1e-6 <= axis.position(share) <= 100 + 1e-6


@given(st.integers(1, 5000), st.integers(0, 5000))
def test_few_round_numbers_stand_below_the_axis(first: int, count: int) -> None:
    ticks = round_ticks(range(first, first + count + 1))
    assert 1 <= len(ticks) <= 6
    assert first <= ticks[0] <= ticks[-1] <= first + count
    assert len({after - before for before, after in pairwise(ticks)}) <= 1


@given(st.lists(st.floats(0, 100), max_size=30), st.floats(0.5, 10))
def test_names_keep_apart_in_their_order_and_inside(positions: list[float], gap: float) -> None:
    placed = spread(positions, gap, 0.0, 100.0)
    room = min(gap, 100 / max(1, len(positions) - 1))
    ranked = sorted(range(len(positions)), key=positions.__getitem__)
    assert all(-0.01 <= place <= 100.01 for place in placed)
    for before, after in pairwise(ranked):
        assert placed[after] - placed[before] >= room - 0.02  # places are rounded to 0.01


def test_names_with_room_stay_where_they_are() -> None:
    assert spread([80.0, 10.0, 40.0], 6.5, 0.0, 100.0) == [80.0, 10.0, 40.0]


def test_lines_break_where_a_round_is_missing() -> None:
    series = Series(name="aws", style="s0", values=[0.5, 0.75, None, 0.25, None])
    chart = line_chart("Global", [1, 2, 3, 4, 5], [series], AXIS)
    assert chart.lines[0].path == "M0 50L25 25M75 75"
    assert chart.lines[0].dots == ((75.0, 75.0, f"aws, round 4: {percent(0.25)}"),)
    assert chart.labels[0].value == percent(0.25)
    assert "in round 1" in chart.description
    assert "in round 4" in chart.description


def test_a_lonely_point_has_a_dot_because_it_has_no_line() -> None:
    series = Series(name="aws", style="s0", values=[0.5, None, 0.5, 0.5, 1.0])
    chart = line_chart("Global", [1, 2, 3, 4, 5], [series], AXIS)
    assert [(x, y) for x, y, _ in chart.lines[0].dots] == [(0.0, 50.0), (100.0, 0.0)]


def test_rounds_stand_at_their_numbers_not_at_their_ranks() -> None:
    series = Series(name="aws", style="s0", values=[0.0, 0.0, 1.0])
    chart = line_chart("Global", [1, 2, 5], [series], AXIS)
    assert chart.lines[0].path == "M0 100L25 100L100 0"


def test_a_series_without_values_has_no_line_and_no_name() -> None:
    chart = line_chart("Global", [1, 2], [Series(name="aws", style="s0", values=[None, None])], AXIS)
    assert (chart.lines[0].path, chart.lines[0].dots, chart.labels, chart.description) == ("", (), (), "")


def test_of_many_sites_only_the_best_the_worst_and_all_are_named() -> None:
    sites = [Series(name=f"site-{rank}", style="many", values=[rank / 20]) for rank in range(20)]
    chart = line_chart("Global", [7], [*sites, Series(name="All sites", style="pooled", values=[0.5])], AXIS)
    assert [label.name for label in chart.labels] == ["site-0", "site-19", "All sites"]
    assert len(chart.lines) == 21


@pytest.mark.parametrize(
    ("count", "total", "level"), [(0, 0, 0), (0, 5, 0), (1, 1000, 1), (1, 2, 4), (5, 9, 5), (7, 7, 9)]
)
def test_shades_follow_the_share_of_the_row(count: int, total: int, level: int) -> None:
    assert heat_level(count, total) == level


def test_long_names_are_cut() -> None:
    assert shorten("onprem") == "onprem"
    assert shorten("st-marys-university-hospital") == "st-marys-univer…"
