"""The five figures of a comparison, as panels to draw."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from components.evaluation.comparison_report.bands import Band, band
from components.evaluation.comparison_report.convergence import (
    DIVERGED,
    HIDDEN_UNITS,
    LEARNING_RATE,
    NOT_REACHED,
    TARGETS,
    Series,
    places_of,
    series,
    settings,
)
from components.evaluation.comparison_report.costs import Costs, costs
from components.evaluation.comparison_report.drawing import (
    Drawing,
    Panel,
    aside,
    band_level,
    band_line,
    legend_below,
    style,
)
from components.evaluation.comparison_report.migration import MODELS, Cloud, clouds
from components.evaluation.comparison_report.protection import MEASURES, Protection
from components.evaluation.comparison_report.records import DataSet, label
from components.evaluation.comparison_report.wording import amount, seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOP: Final = 0.86  # share of an axis below the strip for runs that never got there
MARKS: Final = {NOT_REACHED: "o", DIVERGED: "x"}  # in the legend; who did not get there has its own mark
MODEL_LOOKS: Final = {"before": ("#5b5b5b", "o"), "local": ("#0072b2", "s"), "adapted": ("#d55e00", "D")}
MODEL_NAMES: Final = {"before": "common model", "local": "local only", "adapted": "adapted"}


def protection_figure(measured: DataSet) -> Drawing | None:
    """Figure 1: protection, and protection × relative accuracy, against ε; None without its records."""
    protection = Protection(measured)
    if not protection.points:
        return None
    panels = []
    for measure in MEASURES:
        effects = {point: protection.effects(measure, *point) for point in protection.points}
        products = {point: protection.products(measure, *point) for point in protection.points}
        for title, values in (("protection", effects), ("× relative accuracy", products)):
            bands = {point: band(list(found.values())) for point, found in values.items() if found}
            if bands:
                panels.append(Panel(title=f"{title}\n{measure}", draw=partial(_against_epsilon, bands)))
    return Drawing(name="protection", panels=tuple(panels)) if panels else None


def hidden_units_figure(measured: DataSet) -> Drawing | None:
    """Figure 2: rounds to the targets against hidden units."""
    panels = [
        Panel(
            title=f"rounds to {target}\n{setting.heading}",
            draw=partial(
                _against_size,
                series(measured, HIDDEN_UNITS, setting, f"rounds_{key}"),
                "hidden units",
                2,
                False,
            ),
        )
        for setting in settings(measured, HIDDEN_UNITS)
        for key, target in TARGETS.items()
    ]
    return Drawing(name=HIDDEN_UNITS, panels=tuple(panels)) if panels else None


def learning_rate_figure(measured: DataSet) -> Drawing | None:
    """Figure 3: processor seconds and rounds to the targets against the learning rate."""
    panels = [
        Panel(
            title=f"{name} to {target}\n{setting.heading}",
            draw=partial(
                _against_size,
                series(measured, LEARNING_RATE, setting, f"{what}_{key}"),
                "learning rate",
                10,
                what == "seconds",
            ),
        )
        for setting in settings(measured, LEARNING_RATE)
        for key, target in TARGETS.items()
        for what, name in (("rounds", "rounds"), ("seconds", "processor seconds"))
    ]
    return Drawing(name=LEARNING_RATE, panels=tuple(panels)) if panels else None


def costs_figure(measured: DataSet) -> Drawing | None:
    """Figure 4: bytes and seconds of a round by step and method."""
    found = costs(measured)
    if not found.methods:
        return None
    inches = (1.9 + 0.9 * len(found.methods), 1.3 + 0.32 * len(found.rows))
    panels = tuple(
        Panel(title=title, draw=partial(_heat, found, what), inches=inches)
        for title, what in (("bytes sent by a party", "bytes"), ("seconds of a party", "seconds"))
    )
    return Drawing(name="costs", panels=panels)


def migration_figure(measured: DataSet) -> Drawing | None:
    """Figure 5: accuracy on each cloud of the common, a local and the adapted model."""
    panels = tuple(
        Panel(
            title=f"accuracy on each cloud\n{label(*point)}",
            draw=partial(_dumbbells, sites),
            inches=(4.2, 1.9 + 0.38 * len(sites)),
        )
        for point, sites in clouds(measured).items()
    )
    return Drawing(name="migration", panels=panels) if panels else None


FIGURES: Final = {
    "protection": protection_figure,
    HIDDEN_UNITS: hidden_units_figure,
    LEARNING_RATE: learning_rate_figure,
    "costs": costs_figure,
    "migration": migration_figure,
}


def _against_epsilon(bands: dict[tuple[str, float | None], Band], axes: Axes) -> None:
    lines: dict[str, list[tuple[float, Band]]] = {}
    for (method, epsilon), value in bands.items():
        if epsilon is None:
            band_level(axes, method, value)
        else:
            lines.setdefault(method, []).append((epsilon, value))
    places = sorted({place for points in lines.values() for place, _ in points})
    for rank, (method, points) in enumerate(lines.items()):
        band_line(axes, method, None, points, shaded=True, aside=aside(places, rank, len(lines)))
    if places:
        _size_axis(axes, places, 2)
    axes.set_xlabel("ε: more ε is less noise")
    legend_below(axes)


def _against_size(lines: Sequence[Series], name: str, base: int, logarithmic: bool, axes: Axes) -> None:
    """Lines over a logarithmic axis, and a strip at the top for runs that never got there."""
    places = places_of(lines)
    for rank, line in enumerate(lines):
        points = [(place, cell.band) for place, cell in line.cells.items() if cell.band is not None]
        # Methods at the same height, or failing at the same place, stand side by side.
        factor = aside(places, rank, len(lines))
        band_line(axes, line.method, line.epsilon, points, shaded=False, aside=factor)
        for place, cell in line.cells.items():
            for word, count in ((NOT_REACHED, cell.not_reached), (DIVERGED, cell.diverged)):
                if count:
                    _missed(axes, place * factor, line.method, word)
    _height_axis(axes, lines, logarithmic)
    axes.plot([0, 1], [TOP + 0.04] * 2, ":", color="#999999", linewidth=0.8, transform=axes.transAxes)
    _size_axis(axes, places, base)
    axes.set_xlabel(name)
    for word, marker in MARKS.items():
        axes.plot([], [], linestyle="", marker=marker, color="#777777", fillstyle="none", label=word)
    legend_below(axes)


def _height_axis(axes: Axes, lines: Sequence[Series], logarithmic: bool) -> None:
    """Room for the lines below the strip; no numbers where no run reached the target."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    bands = [cell.band for line in lines for cell in line.cells.values() if cell.band is not None]
    if not bands:
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        middle = axes.transAxes
        axes.text(0.5, 0.45, "no run reached the target", ha="center", color="#777777", transform=middle)
        return
    highest = max(value.high for value in bands)
    lowest = min(value.mean for value in bands)
    if not logarithmic or lowest <= 0:
        axes.set_ylim(0, 1.05 * highest / TOP)
        return
    low = lowest / 1.5
    axes.set_yscale("log")
    axes.set_ylim(low, low * (1.1 * highest / low) ** (1 / TOP))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _missed(axes: Axes, place: float, method: str, word: str) -> None:
    """A mark in the strip: hollow for a run that did not get there, a cross for one that diverged."""
    axes.plot(
        [place],
        [0.945 if word == NOT_REACHED else 0.985],
        linestyle="",
        marker=style(method)["marker"] if word == NOT_REACHED else MARKS[word],
        color=style(method)["color"],
        fillstyle="none",
        markeredgewidth=1.5,
        clip_on=False,
        transform=axes.get_xaxis_transform(),  # places in numbers, heights in shares of the axes
    )


def _size_axis(axes: Axes, places: Sequence[float], base: int) -> None:
    """A logarithmic axis that names just the places that were measured."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_xscale("log", base=base)
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_major_formatter(lambda place, _: f"{place:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _heat(found: Costs, what: str, axes: Axes) -> None:
    """A table whose cells are the darker, the more they cost; shades are logarithmic."""
    import numpy as np

    table = np.array([[found.value(row, method, what) for method in found.methods] for row in found.rows])
    shades = np.full(table.shape, np.nan)
    shades[table > 0] = np.log10(table[table > 0])
    low, high = (np.nanmin(shades), np.nanmax(shades)) if (table > 0).any() else (0.0, 1.0)
    axes.pcolormesh(shades, cmap="Blues", vmin=low - 0.3, vmax=max(high, low + 1), edgecolors="white")
    write = amount if what == "bytes" else seconds
    for (row, column), value in np.ndenumerate(table):
        ink = "white" if value > 0 and shades[row, column] > low + 0.62 * max(high - low, 1) else "#222222"
        text = write(value) if value > 0 else "–"
        place = (column + 0.5, row + 0.5)
        axes.text(*place, text, ha="center", va="center", fontsize=8.5, color=ink)
    axes.set_xticks(np.arange(len(found.methods)) + 0.5, [label(method) for method in found.methods])
    axes.set_yticks(np.arange(len(found.rows)) + 0.5, [f"{step} ({who})" for step, who in found.rows])
    axes.set_ylim(len(found.rows), 0)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _dumbbells(sites: Sequence[Cloud], axes: Axes) -> None:
    """Three marks for each cloud, from the common model to the adapted one."""
    for row, cloud in enumerate(sites):
        before, adapted = cloud.band("before").mean, cloud.band("adapted").mean
        axes.plot([before, adapted], [row, row], color="#bbbbbb", linewidth=2.5, zorder=1)
    for rank, model in enumerate(MODELS):
        colour, marker = MODEL_LOOKS[model]
        values = [cloud.band(model) for cloud in sites]
        axes.errorbar(
            [value.mean for value in values],
            [row + 0.16 * (rank - 1) for row in range(len(sites))],
            xerr=[value.half_width or 0.0 for value in values],
            linestyle="",
            marker=marker,
            color=colour,
            capsize=2,
            elinewidth=1,
            label=MODEL_NAMES[model],
        )
    names = [f"{cloud.name}\n(joins late)" if cloud.late else cloud.name for cloud in sites]
    axes.set_yticks(range(len(sites)), names)
    axes.set_ylim(len(sites) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("accuracy")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.5 / (0.4 + 0.38 * len(sites))), ncols=3)
