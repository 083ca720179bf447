"""What a person sees of a run: lines as steps end, the closing table, who was left out."""

from __future__ import annotations

import io
import re
from typing import Any, Literal

import pytest
from rich.console import Console

from pipelines.console import RoundFigures, RoundView, closing_table, print_left_out, round_figures
from pipelines.local import StepEvent

TITLES = ["open round", "train · aws", "train · gcp", "train · onprem", "roster"]


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, width=120, force_terminal=terminal, color_system=None), screen


def event(
    title: str,
    status: Literal["started", "succeeded", "failed", "progress"],
    seconds: float | None = None,
    message: str = "",
) -> StepEvent:
    return StepEvent(task=title, title=title, status=status, seconds=seconds, message=message)


def evaluation(confusion: list[list[int]]) -> dict[str, Any]:
    return {"num_examples": sum(map(sum, confusion)), "log_loss": 0.5, "confusion": confusion}


def site(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "took_part": True, "bytes_sent": 1000, "evaluation": None, "reason": ""} | changes


def test_a_step_is_one_line_once_all_sites_have_ended() -> None:
    out, screen = console()
    with RoundView(out, TITLES) as view:
        view.on_event(event("open round", "started"))
        view.on_event(event("open round", "succeeded", 0.5))
        for name in ("aws", "gcp", "onprem"):
            view.on_event(event(f"train · {name}", "started"))
            view.on_event(event(f"train · {name}", "progress", 1.0, "12%, 100 rows/s"))
            view.on_event(event(f"train · {name}", "succeeded", 1.25))
            assert ("train" in screen.getvalue()) == (name == "onprem")
    assert [line.split() for line in screen.getvalue().splitlines()] == [
        ["open", "round", "✓", "0.5", "s"],
        ["train", "✓", "aws", "✓", "gcp", "✓", "onprem", "3.8", "s"],
    ]


def test_a_site_that_is_left_out_has_its_own_mark_although_its_step_succeeds() -> None:
    out, screen = console()
    with RoundView(out, TITLES) as view:
        for name in ("aws", "gcp", "onprem"):
            view.on_event(event(f"train · {name}", "started"))
            if name == "gcp":
                view.on_event(event(f"train · {name}", "progress", 0.1, "left out: timeout"))
            view.on_event(event(f"train · {name}", "succeeded", 0.2))
    (line,) = screen.getvalue().splitlines()
    assert re.search(r"train\s+✓ aws  – gcp  ✓ onprem", line)


def test_what_a_failed_round_had_begun_is_shown_at_its_end() -> None:
    out, screen = console()
    with RoundView(out, TITLES) as view:
        view.on_event(event("train · aws", "started"))
        view.on_event(event("train · aws", "succeeded", 0.2))
        view.on_event(event("roster", "started"))
        view.on_event(event("roster", "failed", 0.3))
        assert "✗" in screen.getvalue()
        assert "train" not in screen.getvalue()
    assert [line.split() for line in screen.getvalue().splitlines()] == [
        ["roster", "✗", "0.3", "s"],
        ["train", "✓", "aws", "0.2", "s"],
    ]


def test_a_terminal_shows_progress_live_and_ends_with_plain_lines() -> None:
    out, screen = console(terminal=True)
    with RoundView(out, TITLES) as view:
        view.on_event(event("train · aws", "started"))
        view.on_event(event("train · aws", "progress", 1.0, "aws 12%, 100 rows/s"))
        out.file.flush()
        view._live.refresh()
        assert "aws 12%, 100 rows/s" in screen.getvalue()
        view.on_event(event("train · aws", "succeeded", 1.5))
    last = screen.getvalue().splitlines()[-1]
    assert re.search(r"train\s+✓ aws\s+1\.5 s$", last)


def test_figures_are_pooled_over_test_rows_and_not_over_sites() -> None:
    document = {
        "round_number": 4,
        "sites": [
            site(
                "aws",
                bytes_sent=70_000,
                evaluation={"global": evaluation([[1, 1], [0, 0]]), "adapted": evaluation([[2, 0], [0, 0]])},
            ),
            site(
                "gcp",
                bytes_sent=90_000,
                evaluation={"global": evaluation([[9, 0], [0, 9]]), "adapted": evaluation([[9, 0], [9, 0]])},
            ),
            site("onprem", took_part=False, bytes_sent=500_000, reason="timeout: 3 s"),
        ],
    }
    figures = round_figures(document, 12.34)
    assert figures == RoundFigures(
        round_number=4,
        members=2,
        sites=3,
        accuracy=19 / 20,
        adapted_accuracy=11 / 20,
        measured_sites=2,
        bytes_a_site=90_000,
        seconds=12.34,
        epsilon_spent=None,
        epsilon_left=None,
        left_out={"onprem": "timeout: 3 s"},
    )


def test_the_table_has_a_row_a_round_and_says_what_is_kept() -> None:
    shown = round_figures(
        {
            "round_number": 1,
            "sites": [
                site(
                    "aws",
                    bytes_sent=1_234_567,
                    evaluation={
                        "global": evaluation([[3, 1], [0, 4]]),
                        "adapted": evaluation([[4, 0], [0, 4]]),
                    },
                )
            ],
        },
        61.25,
    )
    kept = round_figures({"round_number": 2, "sites": [site("aws"), site("gcp", took_part=False)]}, 5.0)
    out, screen = console()
    out.print(closing_table([shown, kept]))
    rows = [re.split(r"\s{2,}", line.strip()) for line in screen.getvalue().splitlines() if line.strip()]
    assert rows == [
        ["round", "sites", "global accuracy", "adapted accuracy", "bytes a site sent", "seconds"],
        ["1", "1 of 1", "87.5 %", "100.0 %", "1,234,567", "61.2"],
        ["2", "1 of 2", "kept at the sites", "kept at the sites", "1,000", "5.0"],
    ]


def test_a_sealed_sum_stands_in_the_place_of_figures_that_no_site_publishes() -> None:
    counted = {
        "members": ["aws", "gcp"],
        "rows": 612.5,
        "accuracy": 0.8125,
        "accuracy_half_width": 0.0312,
        "adapted_accuracy": None,
        "adapted_accuracy_half_width": None,
    }
    document = {"round_number": 1, "sites": [site("aws"), site("gcp")], "aggregate": counted}
    figures = round_figures(document, 1.0)
    assert (figures.accuracy, figures.half_width, figures.measured_sites) == (0.8125, 0.0312, 2)
    out, screen = console()
    short = {**document, "aggregate": {"reason": "too few sites"}}
    out.print(closing_table([figures, round_figures(short, 1.0)]))
    _, first, second = (
        re.split(r"\s{2,}", line.strip()) for line in screen.getvalue().splitlines() if line.strip()
    )
    assert first[2:4] == ["81.2 ± 3.1 %", "kept at the sites"]
    assert second[2:4] == ["kept at the sites"] * 2


def test_the_table_says_what_was_spent_where_sums_are_noised() -> None:
    spent = {"epsilon_spent": 2.345, "epsilon_left": 5.655, "delta": 1e-5, "releases": 1, "rounds_left": 2}
    rounds = [
        round_figures({"round_number": 1, "sites": [site("aws")], "privacy": None}, 1.0),
        round_figures({"round_number": 2, "sites": [site("aws")], "privacy": spent}, 1.0),
    ]
    out, screen = console()
    out.print(closing_table(rounds))
    header, first, second = (
        re.split(r"\s{2,}", line.strip()) for line in screen.getvalue().splitlines() if line.strip()
    )
    assert header[-2:] == ["ε spent", "ε left"]
    assert first[-1] == "1.0"
    assert second[-3:] == ["1.0", "2.35", "5.66"]


@pytest.mark.parametrize("reason", ["bad_data: [red]no rows[/red]", "unreachable: " + "x" * 180])
def test_who_was_left_out_is_one_line_each_with_the_reason_as_it_is(reason: str) -> None:
    document = {
        "round_number": 3,
        "sites": [site("gcp", reason=reason), site("aws", reason="oom"), site("azure")],
    }
    out, screen = console()
    print_left_out(out, [round_figures(document, 1.0)])
    assert screen.getvalue().splitlines() == [
        "round 3: aws left out: oom",
        f"round 3: gcp left out: {reason}",
    ]
