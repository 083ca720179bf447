"""What a person reads while configurations are measured."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipelines.baseline_comparison.pool import Finished
from pipelines.baseline_comparison.view import MeasuringView, budget_table, describe, duration


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def test_a_configuration_is_named_by_what_is_set_in_it() -> None:
    configuration = {"kind": "protection", "method": "ours", "epsilon": 0.5, "seed": 2, "rate": None, "x": []}
    assert describe(configuration) == "protection ours (epsilon 0.5, seed 2)"


@pytest.mark.parametrize(("seconds", "told"), [(5, "5 s"), (89, "89 s"), (1500, "25 min"), (9000, "2.5 h")])
def test_durations_are_told_as_people_say_them(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_the_budget_is_of_what_is_not_measured_yet(console: Console) -> None:
    console.print(budget_table([("costs", 5, 5, 0.0), ("migration", 15, 3, 600.0)]))
    assert [line.split() for line in lines(console)] == [
        ["figure", "configurations", "measured", "time", "budget"],
        ["costs", "5", "5", "none"],
        ["migration", "15", "3", "10", "min"],
        ["together", "20", "8", "10", "min"],
    ]


def test_without_a_terminal_there_are_some_lines_and_the_failures(console: Console) -> None:
    with MeasuringView(console, total=40, done=10, costs=[2.0] * 30, cores=2) as view:
        for place in range(30):
            error = "class 1 is [empty]" if place == 4 else ""
            view.on_finished(Finished(configuration={"kind": "mean", "place": place}, error=error), 2.0)
    told = lines(console)
    assert told[1] == "  failed  mean (place 4): class 1 is [empty]"
    assert [line.split(",")[0] for line in told if "failed" not in line] == [
        f"  {number} of 40 done" for number in (14, 18, 22, 26, 30, 34, 38, 40)
    ]
    assert "about" in told[0]
    assert told[-1] == "  40 of 40 done"


def test_many_failures_are_counted_after_some_lines(console: Console) -> None:
    with MeasuringView(console, total=100, done=0, costs=[1.0] * 100, cores=1) as view:
        for place in range(100):
            view.on_finished(Finished(configuration={"kind": "mean", "place": place}, error="no"), 1.0)
    told = [line for line in lines(console) if "fail" in line]
    assert len(told) == 13
    assert told[-1] == "  further failures are counted at the end"
