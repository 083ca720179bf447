"""How much may be spent on one dataset, over which time, and how far it reaches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from components.privacy.accounting import ledger_epsilon
from components.privacy.events import Event

Period = Literal["month", "total"]
PERIODS: Final[tuple[Period, ...]] = ("month", "total")
EPSILONS: Final = (0.001, 1000.0)
"""Least and most that anybody would ask for."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """An allowance of one dataset and privacy unit.

    Attributes:
        epsilon: most that may be spent, from 0.001 to 1000.
        delta: at this delta, between 0 and 1; of one period.
        per: in each calendar month (UTC), or in all. A monthly allowance has no end: months add up.
    """

    epsilon: float
    delta: float
    per: Period = "total"

    def problems(self) -> list[str]:
        """Every rule it breaks, one a line; empty for a budget that can be kept."""
        least, most = EPSILONS
        rules = {
            f"epsilon must be from {least:g} to {most:g}, got {self.epsilon}: choose what may be spent": least
            <= self.epsilon
            <= most,
            f"delta must be above 0 and below 1, got {self.delta}: choose one below 1/population": 0
            < self.delta
            < 1,
            f"per must be {' or '.join(PERIODS)}, got {self.per!r}: choose a period": self.per in PERIODS,
        }
        return [problem for problem, kept in rules.items() if not kept]

    def period(self, time: datetime) -> str:
        """Name of the period that a time lies in: 2026-11, or `total`."""
        return time.astimezone(UTC).strftime("%Y-%m") if self.per == "month" else "total"

    def spent(self, events: Iterable[Event]) -> float:
        """Epsilon that events of one period have cost."""
        return ledger_epsilon(events, self.delta)

    def admits(self, events: Iterable[Event]) -> bool:
        """Whether all these events of one period fit in it."""
        return self.spent(events) <= self.epsilon


def rounds_left(spent: Sequence[Event], upcoming: Sequence[Event], budget: Budget) -> int:
    """How many of the upcoming releases, in their order, fit after those of the period.

    Args:
        spent: what was released in the running period.
        upcoming: the rest of a schedule, or one round's event as often as one wants to know.
        budget: of the dataset.

    Returns:
        From 0 to the number of upcoming releases.
    """
    low, high = 0, len(upcoming)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if budget.admits([*spent, *upcoming[:middle]]) else (low, middle - 1)
    return low
