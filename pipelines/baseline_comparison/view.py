"""What a person at the terminal sees of a comparison: its budget at the start, then how far it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from pipelines.baseline_comparison.pool import Finished

_LINES: Final = 10
"""Lines of progress that are printed where there is no terminal, about."""
_LONGEST_SILENCE: Final = 60.0
_FAILURES: Final = 12
"""Lines of failures that are printed."""


def describe(configuration: Mapping[str, Any]) -> str:
    """A configuration as a person would name it: its kind, its method, and what else is set."""
    first = [str(configuration[name]) for name in ("kind", "method") if name in configuration]
    others = []
    for name, value in configuration.items():
        if name not in {"kind", "method"} and value is not None and not isinstance(value, list | dict):
            shown = f"{value:g}" if isinstance(value, float) else value
            others.append(f"{name.replace('_', ' ')} {shown}")
    return f"{' '.join(first)} ({', '.join(others)})"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def budget_table(rows: Sequence[tuple[str, int, int, float]]) -> Table:
    """Of every figure: configurations, those that are measured already, and the time the others may take.

    Args:
        rows: figure, configurations, measured, seconds of wall time.
    """
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("figure")
    for name in ("configurations", "measured", "time budget"):
        table.add_column(name, justify="right")
    for figure, number, done, seconds in rows:
        table.add_row(figure, str(number), str(done), duration(seconds) if number > done else "none")
    total, done = sum(row[1] for row in rows), sum(row[2] for row in rows)
    left = duration(sum(row[3] for row in rows)) if total > done else "none"
    table.add_row("together", str(total), str(done), left, style="bold")
    return table


class MeasuringView:
    """A bar on a terminal, lines elsewhere: what is done, and the time that is left at the speed so far."""

    def __init__(
        self, console: Console, *, total: int, done: int, costs: Sequence[float], cores: int
    ) -> None:
        """Prepares it.

        Args:
            console: of the person.
            total: configurations.
            done: those that are measured already.
            costs: expected processor seconds of each of the others.
            cores: that work on them.
        """
        self._console, self._total, self._done = console, total, done
        self._cost = self._cost_left = sum(costs)
        self._cores = cores
        self._began = self._printed = time.monotonic()
        self._at_print = done
        self._failed = 0
        self._bar = Progress(
            TextColumn("  {task.completed:.0f} of {task.total:.0f} done"),
            BarColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=done, left=self._left())

    def __enter__(self) -> Self:
        """Shows the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes the bar away."""
        self._bar.stop()

    def on_finished(self, finished: Finished, cost: float) -> None:
        """Takes note of a configuration that has ended, and of what it was expected to cost."""
        self._done += 1
        self._cost_left -= cost
        if finished.error:
            self._print_failure(finished)
        self._bar.update(self._task, completed=self._done, left=self._left())
        if not self._console.is_terminal:
            self._print_now_and_then()

    def _print_failure(self, finished: Finished) -> None:
        """What fails in an early stage takes others with it: after some lines they are counted only."""
        self._failed += 1
        told = f"{escape(describe(finished.configuration))}: {escape(finished.error)}"
        if self._failed > _FAILURES:
            return
        self._console.print(f"  [red]failed[/]  {told}", highlight=False, soft_wrap=True)
        if self._failed == _FAILURES:
            self._console.print("  further failures are counted at the end", highlight=False)

    def _left(self) -> str:
        """Time left: by the speed of this start, once it has one."""
        finished = self._cost - self._cost_left
        pace = (time.monotonic() - self._began) / finished if finished > 0 else 1 / self._cores
        return f"about {duration(self._cost_left * pace)} left" if self._done < self._total else ""

    def _print_now_and_then(self) -> None:
        now = time.monotonic()
        steps = self._done - self._at_print >= max(1, self._total // _LINES)
        if steps or now - self._printed > _LONGEST_SILENCE or self._done == self._total:
            self._printed, self._at_print = now, self._done
            told = self._left()
            line = f"  {self._done} of {self._total} done{', ' + told if told else ''}"
            self._console.print(line, highlight=False)
