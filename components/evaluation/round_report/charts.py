"""Geometry of the report's charts, in per cent of the drawing, so that one SVG fits every width.

A template draws them: lines in a stretched inner SVG whose strokes do not scale, text and dots
outside it at their own size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_COLOURED_SITES = 8
MAX_LABEL_CHARACTERS = 16
LABEL_GAP = 6.5  # a line of 12 px text in a chart of 240 px, with room to breathe
HEAT_LEVELS = 9


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line: a share in [0, 1] for every round, None where there is none."""

    name: str
    values: Sequence[float | None]
    style: str


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A labelled place on an axis, in per cent."""

    position: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Label:
    """The name of a line at the right edge; `y` keeps clear of the other names."""

    y: float
    name: str
    value: str
    style: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series as drawn: an SVG path with gaps, and dots (x, y, text)."""

    name: str
    style: str
    path: str
    dots: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Everything a template needs to draw a chart of shares by round."""

    title: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    labels: tuple[Label, ...]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range of shares between two round numbers, and the ticks in it."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def position(self, value: float) -> float:
        """Distance from the top in per cent; `high` is 0."""
        return round(100 * (self.high - value) / (self.high - self.low), 2)


def percent(share: float) -> str:
    """A share as people read it: 0.7029 is 70.3 %."""
    return f"{100 * share:.1f}\N{NARROW NO-BREAK SPACE}%"


def share_axis(values: Sequence[float]) -> Axis:
    """The tightest axis around shares that has at most seven round ticks; values may not be empty."""
    lowest, highest = 100 * min(values), 100 * max(values)
    for step in (1, 2, 5, 10, 20):
        low = max(0, math.floor(lowest / step) * step)
        high = min(100, max(math.ceil(highest / step), low // step + 1) * step)
        low = min(low, high - step)
        if (high - low) // step <= 6:
            break
    ticks = tuple(tick / 100 for tick in range(low, high + 1, step))
    return Axis(low=low / 100, high=high / 100, ticks=ticks)


def round_ticks(rounds: Sequence[int]) -> tuple[int, ...]:
    """At most six round numbers to write below the axis."""
    first, last = rounds[0], rounds[-1]
    for power in range(10):
        for step in (10**power, 2 * 10**power, 5 * 10**power):
            ticks = tuple(number for number in range(-(-first // step) * step, last + 1, step))
            if len(ticks) <= 6:
                return ticks
    return (last,)


def line_chart(title: str, rounds: Sequence[int], series: Sequence[Series], axis: Axis) -> LineChart:
    """Lays out shares by round.

    Args:
        title: of the chart.
        rounds: round numbers in ascending order, at least one.
        series: lines in drawing order; the last lies on top. Values are in the order of `rounds`.
        axis: shared by charts that are to be compared.
    """
    span = rounds[-1] - rounds[0]

    def across(number: int) -> float:
        return round(100 * (number - rounds[0]) / span, 2) if span else 50.0

    lines = tuple(_line(one, rounds, [across(number) for number in rounds], axis) for one in series)
    return LineChart(
        title=title,
        description=_description(rounds, series),
        x_ticks=tuple(Tick(position=across(number), text=str(number)) for number in round_ticks(rounds)),
        y_ticks=tuple(Tick(position=axis.position(tick), text=f"{100 * tick:.0f}") for tick in axis.ticks),
        lines=lines,
        labels=_labels(series, axis),
    )


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves positions apart to at least `gap` within [low, high], keeping their order.

    Where there is not room for all, the gap shrinks.
    """
    order = sorted(range(len(positions)), key=positions.__getitem__)
    gap = min(gap, (high - low) / max(1, len(positions) - 1))
    placed: list[float] = []
    for index in order:
        wanted = max(positions[index], low)
        placed.append(max(wanted, placed[-1] + gap) if placed else wanted)
    ceiling = high
    for rank in reversed(range(len(placed))):
        placed[rank] = min(placed[rank], ceiling)
        ceiling = placed[rank] - gap
    result = [0.0] * len(positions)
    for index, position in zip(order, placed, strict=True):
        result[index] = round(position, 2)
    return result


def heat_level(count: int, row_total: int) -> int:
    """Shade of a confusion matrix's cell: 0 for none, else 1 to 9 by its share of the row."""
    return max(1, min(HEAT_LEVELS, round(HEAT_LEVELS * count / row_total))) if count else 0


def _line(series: Series, rounds: Sequence[int], xs: Sequence[float], axis: Axis) -> Line:
    points = [
        None if value is None else (x, axis.position(value))
        for x, value in zip(xs, series.values, strict=True)
    ]
    path = ""
    for before, point in pairwise([None, *points]):
        if point is not None:
            path += f"{'M' if before is None else 'L'}{point[0]:g} {point[1]:g}"
    lonely = {
        index
        for index, point in enumerate(points)
        if point is not None
        and (index == 0 or points[index - 1] is None)
        and (index == len(points) - 1 or points[index + 1] is None)
    }
    newest = max((index for index, point in enumerate(points) if point is not None), default=None)
    dots = tuple(
        (*point, f"{series.name}, round {rounds[index]}: {percent(series.values[index] or 0.0)}")
        for index, point in enumerate(points)
        if point is not None and (index in lonely or index == newest)
    )
    return Line(name=series.name, style=series.style, path=path, dots=dots)


def _labels(series: Sequence[Series], axis: Axis) -> tuple[Label, ...]:
    newest = [(one, [value for value in one.values if value is not None][-1:]) for one in series]
    named = [(one, values[0]) for one, values in newest if values]
    if len(named) > MAX_COLOURED_SITES + 1:
        # So many names would run into each other: the best, the worst and all together stay.
        ranked = sorted(named, key=lambda pair: pair[1])
        named = [pair for pair in named if pair in (ranked[0], ranked[-1], named[-1])]
    heights = spread([axis.position(value) for _, value in named], LABEL_GAP, 0.0, 100.0)
    return tuple(
        Label(y=height, name=shorten(one.name), value=percent(value), style=one.style)
        for (one, value), height in zip(named, heights, strict=True)
    )


def shorten(name: str) -> str:
    """A name that fits beside a chart."""
    return name if len(name) <= MAX_LABEL_CHARACTERS else name[: MAX_LABEL_CHARACTERS - 1] + "…"


def _description(rounds: Sequence[int], series: Sequence[Series]) -> str:
    parts = []
    for one in series:
        known = [
            (number, value) for number, value in zip(rounds, one.values, strict=True) if value is not None
        ]
        if known:
            (first, start), (last, end) = known[0], known[-1]
            parts.append(f"{one.name}: {percent(start)} in round {first}, {percent(end)} in round {last}")
    return "; ".join(parts)
