"""How fast methods learn: rounds and seconds to a target accuracy, and runs that never reach it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from components.evaluation.comparison_report.bands import Band, band
from components.evaluation.comparison_report.records import DataSet, Record, method_order
from components.evaluation.comparison_report.wording import in_band
from components.evaluation.rehearsal.corpus import LANGUAGE_MODEL

HIDDEN_UNITS: Final = "hidden-units"
LEARNING_RATE: Final = "learning-rate"
AXES: Final = {HIDDEN_UNITS: "hidden_units", LEARNING_RATE: "learning_rate"}
DIVERGED: Final = "diverged"
NOT_REACHED: Final = "not reached"
TO_85: Final = "to_85"
TO_95_OF_CENTRAL: Final = "to_95_of_central"
TARGETS: Final = {TO_85: "85 %", TO_95_OF_CENTRAL: "95 % of centralised"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is the same for all lines of a panel; None where it is what the panel's axis shows."""

    features: str
    concentration: float
    hidden_units: int | None = None

    @property
    def title(self) -> str:
        """In one line, for a table."""
        return self.heading.replace("\n", ", ")

    @property
    def heading(self) -> str:
        """In lines that are short enough for a panel."""
        words = "with" if self.features == LANGUAGE_MODEL else "without"
        first = f"{words} language model, Dirichlet {self.concentration:g}"
        if self.hidden_units is None:
            return first
        return f"{first}\n{f'{self.hidden_units} hidden units' if self.hidden_units else 'linear head'}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Runs of one method at one place, one a seed.

    Attributes:
        reached: rounds or seconds of the runs that reached the target.
        not_reached: runs that went on learning and did not.
        diverged: runs that stopped learning for good.
        planned: the most rounds that a plan has, so that a run that did not get there needs more.
        allowed: the fewest rounds that a run was allowed. A plan may have fewer, as its ε allows.
    """

    reached: tuple[float, ...]
    not_reached: int
    diverged: int
    planned: int
    allowed: int

    @property
    def runs(self) -> int:
        """How many there are."""
        return len(self.reached) + self.not_reached + self.diverged

    @property
    def band(self) -> Band | None:
        """Of the runs that reached the target; None where none did."""
        return band(self.reached) if self.reached else None

    def text(self, digits: int = 1) -> str:
        """The band, and how many runs are not in it."""
        parts = [in_band(self.band, digits)] if self.band else []
        for count, word in ((self.not_reached, NOT_REACHED), (self.diverged, DIVERGED)):
            if count:
                parts.append(word if count == self.runs else f"{word} {count} of {self.runs}")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Series:
    """One method's line: cells by place on the axis, ascending."""

    method: str
    epsilon: float | None
    cells: dict[float, Cell]


def settings(measured: DataSet, figure: str) -> list[Setting]:
    """Every setting that a figure's runs were made in, with the language model first."""
    found = {_setting(record, figure) for record in measured.of_kind("convergence", figure=figure)}
    return sorted(
        found,
        key=lambda one: (one.features != LANGUAGE_MODEL, one.concentration, one.hidden_units or 0),
    )


def series(measured: DataSet, figure: str, setting: Setting, outcome: str) -> list[Series]:
    """The lines of a panel.

    Args:
        measured: the data set.
        figure: one of `AXES`.
        setting: one of its settings.
        outcome: name of what is counted, as `rounds_to_85`.
    """
    grouped: dict[tuple[str, float | None], dict[float, list[Record]]] = {}
    for record in measured.of_kind("convergence", figure=figure):
        if _setting(record, figure) == setting:
            place = float(record.configuration[AXES[figure]])
            line = grouped.setdefault((record.method, record.epsilon), {})
            line.setdefault(place, []).append(record)
    order = sorted(grouped, key=lambda line: (method_order(line[0]), line[1] or 0.0))
    return [
        Series(
            method=method,
            epsilon=epsilon,
            cells={
                place: _cell(records, outcome) for place, records in sorted(grouped[method, epsilon].items())
            },
        )
        for method, epsilon in order
    ]


def places_of(lines: Sequence[Series]) -> list[float]:
    """Every place on the axis that a line has."""
    return sorted({place for line in lines for place in line.cells})


def _setting(record: Record, figure: str) -> Setting:
    found = record.configuration
    hidden = None if figure == HIDDEN_UNITS else int(found["hidden_units"])
    # Every hidden size is run at the method's own rate, so a rate sets no panels apart.
    return Setting(
        features=str(found["features"]), concentration=float(found["concentration"]), hidden_units=hidden
    )


def _cell(records: Sequence[Record], outcome: str) -> Cell:
    records = sorted(records, key=lambda record: record.seed)
    missed = [record for record in records if record.outcome[outcome] is None]
    diverged = sum(_diverged(record) for record in missed)
    return Cell(
        reached=tuple(
            float(record.outcome[outcome]) for record in records if record.outcome[outcome] is not None
        ),
        not_reached=len(missed) - diverged,
        diverged=diverged,
        planned=max(_planned(record) for record in records),
        allowed=min(int(record.configuration.get("rounds", _planned(record))) for record in records),
    )


def _planned(record: Record) -> int:
    return int(record.outcome.get("rounds_planned", len(record.outcome["curve"])))


def _diverged(record: Record) -> bool:
    """A run may also have diverged on the way from the lower target to the higher."""
    return record.outcome["ended"] == DIVERGED or len(record.outcome["curve"]) < _planned(record)
