"""The report as one HTML page: nothing is fetched, nothing runs, everything from outside is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.evaluation.metrics import ClassCounts
from components.evaluation.round_report.charts import (
    MAX_COLOURED_SITES,
    LineChart,
    Series,
    heat_level,
    line_chart,
    percent,
    share_axis,
)
from components.evaluation.round_report.figures import RoundFigures, SiteFigures, StepFigures
from components.evaluation.sealed_counts import Share

if TYPE_CHECKING:
    from jinja2 import Environment

POOLED = "All sites"
PROTECTIONS = {
    "none": "updates are sent unprotected",
    "he": "updates are added while encrypted",
    "smc": "updates are masked; only their sum can be read",
    "masked": "updates are masked; only the key holder can open their sum",
    "sealed": "updates are masked and encrypted; only their sum can be opened",
}


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class of the newest round under both models, and what it is most often taken for."""

    name: str
    before: ClassCounts
    after: ClassCounts
    mistaken_for: str
    mistaken_count: int


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One step of the newest round: each site's part, and the longest."""

    step: str
    parts: tuple[StepFigures, ...]

    @property
    def seconds(self) -> float:
        """Over all sites."""
        return sum(part.seconds for part in self.parts)

    @property
    def num_bytes(self) -> int:
        """Over all sites."""
        return sum(part.num_bytes for part in self.parts)

    @property
    def longest(self) -> StepFigures:
        """The site that took longest."""
        return max(self.parts, key=lambda part: part.seconds)


def render(rounds: Sequence[RoundFigures]) -> str:
    """Returns the page about the newest round and those before it.

    Args:
        rounds: at least one, oldest first.
    """
    newest, previous = rounds[-1], rounds[-2] if len(rounds) > 1 else None
    colours = _colours(newest)
    return (
        _environment()
        .get_template("page.html")
        .render(
            newest=newest,
            previous=previous,
            rounds=rounds[::-1],
            colours=colours,
            charts=_charts(rounds, colours),
            dumbbell_axis=_dumbbell_axis(newest.sites),
            blind=math.log(len(newest.classes)),
            matrix=_matrix(_confusion(newest)),
            classes=_class_rows(newest),
            steps=_step_rows(newest.steps),
            protection=PROTECTIONS.get(newest.protection, ""),
            pooled=POOLED,
        )
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "amount": amount,
        "duration": duration,
        "moment": moment,
        "share": share_text,
    }
    return environment


def points(change: float) -> str:
    """A change of a share in percentage points, with its sign: +0.4 or −1.2."""
    rounded = round(100 * change, 1)
    return f"{'−' if rounded < 0 else '+' if rounded else '±'}{abs(rounded):.1f}"


def amount(num_bytes: int) -> str:
    """Bytes in the largest fitting decimal unit, three digits: 264000 is 264 kB."""
    size, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        units.pop(0)
    digits = 0 if units[0] == "B" or size >= 99.95 else 1
    return f"{size:.{digits}f}\N{NARROW NO-BREAK SPACE}{units[0]}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 1.2 s, 2 min 05 s, 3 h 10 min."""
    if seconds < 99.95:
        return f"{seconds:.1f}\N{NARROW NO-BREAK SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\N{NARROW NO-BREAK SPACE}min {rest:02d}\N{NARROW NO-BREAK SPACE}s"
    return f"{minutes // 60}\N{NARROW NO-BREAK SPACE}h {minutes % 60:02d}\N{NARROW NO-BREAK SPACE}min"


def moment(time: datetime) -> str:
    """22 Nov 2026, 10:00 UTC."""
    zone = time.tzname() or ""
    return f"{time.day}\N{NO-BREAK SPACE}{time:%b}\N{NO-BREAK SPACE}{time.year}, {time:%H:%M} {zone}".rstrip()


def _colours(newest: RoundFigures) -> dict[str, str]:
    """Class of each site's colour; more sites than colours all have one."""
    if len(newest.sites) > MAX_COLOURED_SITES:
        return {site.name: "many" for site in newest.sites}
    return {site.name: f"s{index}" for index, site in enumerate(newest.sites)}


def _charts(rounds: Sequence[RoundFigures], colours: dict[str, str]) -> tuple[LineChart, ...]:
    """Accuracy by round, of the global and of the adapted model, on one scale.

    There are none where nothing is known of figures, nor in the first round: a dot is no line. Under an
    epsilon sites that are counted in sums have no figures of adapted models, and so no second chart.
    """
    numbers = [one.round_number for one in rounds]
    both = []
    for adapted in (False, True):
        lines = [
            Series(name=name, style=style, values=[_accuracy(one, name, adapted) for one in rounds])
            for name, style in colours.items()
        ]
        pooled = [one.overall_adapted if adapted else one.overall for one in rounds]
        values = [share.accuracy if share else None for share in pooled]
        both.append([*lines, Series(name=POOLED, style="pooled", values=values)])
    shares = [value for series in both for one in series for value in one.values if value is not None]
    if not shares or len(rounds) < 2:
        return ()
    axis = share_axis(shares)
    titles = ("Global model", "After adaptation to each site")
    return tuple(
        line_chart(title, numbers, series, axis)
        for title, series in zip(titles, both, strict=True)
        if any(value is not None for one in series for value in one.values)
    )


def _accuracy(one: RoundFigures, name: str, adapted: bool) -> float | None:
    for site in one.sites:
        evaluation = site.adapted if adapted else site.global_model
        if site.name == name and evaluation is not None:
            return evaluation.accuracy
    return None


def _dumbbell_axis(sites: Sequence[SiteFigures]) -> tuple[float, float]:
    """Lowest and highest accuracy that the table of sites draws, never an empty range."""
    shares = [
        evaluation.accuracy
        for site in sites
        for evaluation in (site.global_model, site.adapted)
        if evaluation
    ]
    low, high = (min(shares), max(shares)) if shares else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _confusion(newest: RoundFigures) -> NDArray[np.int64] | None:
    """Counts of published test rows, else those of the sealed sum, rounded."""
    if newest.pooled_global:
        return newest.pooled_global.confusion
    return newest.counts.whole_confusion if newest.counts else None


def _matrix(confusion: NDArray[np.int64] | None) -> list[list[tuple[int, int]]]:
    """Rows of (count, shade)."""
    if confusion is None:
        return []
    return [[(count, heat_level(count, sum(row))) for count in row] for row in confusion.tolist()]


def share_text(share: Share | None) -> str:
    """An accuracy with the half width of its interval, where it has one: 70.3 % or 70.3 ± 1.2 %."""
    if share is None:
        return "–"
    if not share.half_width:
        return percent(share.accuracy)
    text = f"{100 * share.accuracy:.1f} ± {100 * share.half_width:.1f}"
    return f"{text}\N{NARROW NO-BREAK SPACE}%"


def _class_rows(newest: RoundFigures) -> list[ClassRow]:
    before, after = newest.pooled_global, newest.pooled_adapted
    if before is None or after is None:
        return []
    both = zip(newest.classes, before.per_class_counts, after.per_class_counts, strict=True)
    rows = []
    for index, (name, counts_before, counts_after) in enumerate(both):
        mistakes = before.confusion[index].copy()
        mistakes[index] = 0
        rows.append(
            ClassRow(
                name=name,
                before=counts_before,
                after=counts_after,
                mistaken_for=newest.classes[int(mistakes.argmax())],
                mistaken_count=int(mistakes.max()),
            )
        )
    return rows


def _step_rows(steps: Sequence[StepFigures]) -> list[StepRow]:
    """Steps in the order in which they first ran."""
    grouped: dict[str, list[StepFigures]] = {}
    for step in steps:
        grouped.setdefault(step.step, []).append(step)
    return [StepRow(step=step, parts=tuple(parts)) for step, parts in grouped.items()]
