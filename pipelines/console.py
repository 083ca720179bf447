"""What a person sees of a run: one live line a step, a closing table, who was left out and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from components.evaluation.metrics import Evaluation, pool
from components.execution.progress import LEFT_OUT
from pipelines.local import StepEvent

SEPARATOR = " · "
BAR_WIDTH = 20
_NAME_WIDTH = 13
MARKS = {"succeeded": ("✓", "green"), "left out": ("–", "yellow"), "failed": ("✗", "red")}


@dataclass
class StepLine:
    """One kind of step over all sites, or one step outside the sites."""

    name: str
    parties: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""


class RoundView:
    """The live lines of one round; on something that is not a terminal, each line once it is complete."""

    def __init__(self, console: Console, titles: Sequence[str]) -> None:
        """Takes the display names of all steps in the order they are to be shown."""
        self._console = console
        self._lines: dict[str, StepLine] = {}
        self._expected: dict[str, int] = {}
        self._printed: set[str] = set()
        self._spinner = Spinner("dots")
        self._current = ""
        for title in titles:
            name, _, _ = title.partition(SEPARATOR)
            self._expected[name] = self._expected.get(name, 0) + 1
        self._width = max(_NAME_WIDTH, *(len(name) + 1 for name in self._expected))
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=8, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip

    def __enter__(self) -> RoundView:
        """Starts drawing."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leaves the finished lines on the screen."""
        if self._console.is_terminal:
            self._live.stop()
        for line in self._lines.values():
            if line.name not in self._printed:
                self._print(line)

    def on_event(self, event: StepEvent) -> None:
        """Takes note of what happened to a step."""
        name, _, site = event.title.partition(SEPARATOR)
        line = self._lines.setdefault(name, StepLine(name))
        if event.status == "progress":
            if event.message.startswith(LEFT_OUT):
                line.parties[site] = "left out"
            else:
                line.note = event.message
            return
        self._current = event.title
        if event.status == "started":
            line.parties.setdefault(site, "")
            return
        if line.parties.get(site) != "left out":
            line.parties[site] = event.status
        line.seconds += event.seconds or 0.0
        line.note = ""
        done = sum(1 for status in line.parties.values() if status)
        if done == self._expected.get(name, 0) and not self._console.is_terminal:
            self._print(line)

    def _print(self, line: StepLine) -> None:
        self._printed.add(line.name)
        self._console.print(self._text(line), highlight=False)

    def _render(self) -> Table:
        grid = Table.grid()
        for line in self._lines.values():
            grid.add_row(self._text(line))
        self._spinner.update(text=Text(self._current, style="dim"))
        grid.add_row(self._spinner)
        return grid

    def _text(self, line: StepLine) -> Text:
        text = Text(f"  {line.name:<{self._width}}")
        for site, status in line.parties.items():
            mark, style = MARKS.get(status, ("…", "dim"))
            text.append(f"{mark} ", style=style)
            text.append(f"{site}  " if site else "")
        text.append(f"{line.seconds:5.1f} s" if line.seconds else "", style="dim")
        if line.note:
            text.append_text(_bar(line.note))
            text.append(line.note, style="cyan")
        return text


def _bar(note: str) -> Text:
    """A bar for the share that a progress line names, such as `aws 64%, 250 rows/s`."""
    found = re.search(r"(\d{1,3})%", note)
    text = Text("  ")
    if found:
        filled = min(BAR_WIDTH, int(found[1]) * BAR_WIDTH // 100)
        text.append("━" * filled, style="cyan").append("─" * (BAR_WIDTH - filled) + " ", style="dim")
    return text


@dataclass(frozen=True, kw_only=True)
class RoundFigures:
    """What the closing table says of one round."""

    round_number: int
    members: int
    sites: int
    accuracy: float | None
    adapted_accuracy: float | None
    measured_sites: int
    bytes_a_site: int
    seconds: float
    epsilon_spent: float | None
    epsilon_left: float | None
    left_out: Mapping[str, str]
    half_width: float = 0.0
    """Of 95 % of what noise may have done to the accuracy; 0 where it is exact."""
    adapted_half_width: float = 0.0


def round_figures(document: Mapping[str, Any], seconds: float) -> RoundFigures:
    """Reads the figures from a round's `report.json`.

    Accuracy is pooled over all published test rows; where there are none, that of the sealed sum of counts.
    """
    sites, privacy = document["sites"], document.get("privacy") or {}
    published = [site["evaluation"] for site in sites if site["evaluation"]]
    members = [site for site in sites if site["took_part"]]
    sealed = {} if published else document.get("aggregate") or {}

    def pooled(name: str, counted: str) -> float | None:
        if not published:
            return sealed.get(counted)
        return pool([Evaluation.from_dict(evaluation[name]) for evaluation in published]).accuracy

    return RoundFigures(
        round_number=document["round_number"],
        members=len(members),
        sites=len(sites),
        accuracy=pooled("global", "accuracy"),
        adapted_accuracy=pooled("adapted", "adapted_accuracy"),
        half_width=sealed.get("accuracy_half_width") or 0.0,
        adapted_half_width=sealed.get("adapted_accuracy_half_width") or 0.0,
        measured_sites=len(published) or len(sealed.get("members", ())),
        bytes_a_site=max((site["bytes_sent"] for site in members), default=0),
        seconds=seconds,
        epsilon_spent=privacy.get("epsilon_spent"),
        epsilon_left=privacy.get("epsilon_left"),
        left_out={site["name"]: site["reason"] for site in sites if site["reason"]},
    )


def closing_table(rounds: Sequence[RoundFigures]) -> Table:
    """The table at the end of a run."""
    columns = ["round", "sites", "global accuracy", "adapted accuracy", "bytes a site sent", "seconds"]
    noised = any(each.epsilon_spent is not None for each in rounds)
    table = Table(
        *columns, *(["ε spent", "ε left"] if noised else []), box=None, padding=(0, 1 if noised else 2)
    )
    for column in table.columns[2:]:
        # In a narrow terminal the headings break, and the figures stay whole.
        column.justify, column.min_width = "right", 8
    for column in table.columns[6:]:
        column.min_width = 6
    for each in rounds:
        shares = (
            percent(each.accuracy, each.half_width),
            percent(each.adapted_accuracy, each.adapted_half_width),
        )
        for column, share in zip(table.columns[2:4], shares, strict=True):
            if share.endswith("%"):
                column.min_width = max(column.min_width or 0, len(share))
        table.add_row(
            str(each.round_number),
            f"{each.members} of {each.sites}",
            *shares,
            f"{each.bytes_a_site:,}",
            f"{each.seconds:.1f}",
            *([_number(each.epsilon_spent), _number(each.epsilon_left)] if noised else []),
        )
    return table


def print_left_out(console: Console, rounds: Sequence[RoundFigures]) -> None:
    """One line for every site that was left out of a round, with its reason."""
    for each in rounds:
        for site, reason in sorted(each.left_out.items()):
            console.print(
                f"[yellow]round {each.round_number}: {escape(site)} left out[/]: {escape(reason)}",
                highlight=False,
                soft_wrap=True,
            )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def percent(value: float | None, half_width: float = 0.0) -> str:
    """An accuracy as people read it, with half of its 95 % interval where noise gives it one."""
    if value is None:
        return "kept at the sites"
    return f"{100 * value:.1f}{f' ± {100 * half_width:.1f}' if half_width else ''} %"
