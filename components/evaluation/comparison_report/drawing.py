"""How figures look, and how they become files whose bytes depend on nothing but the numbers.

Colours are those of Okabe and Ito, which people with any colour vision tell apart; markers differ as well.
matplotlib's own window system is never loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Literal

from components.evaluation.comparison_report.bands import Band
from components.evaluation.comparison_report.records import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = {
    "fedavg": "#5b5b5b",
    "smc-fl": "#d98e00",
    "he-fl": "#009e73",
    "dp-fl": "#0072b2",
    "ours": "#d55e00",
}
MARKERS: Final = {"fedavg": "s", "smc-fl": "P", "he-fl": "X", "dp-fl": "o", "ours": "D"}
DASHES: Final = {"fedavg": (0, (1, 1)), "smc-fl": (0, (5, 3)), "he-fl": (2, (2, 4))}
OTHER_COLOUR: Final = "#cc79a7"
OTHER_MARKER: Final = "*"
PANEL_INCHES: Final = (4.6, 3.9)
_STYLE: Final[dict[str, Any]] = {
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.8,
    "lines.markersize": 6.0,
    "svg.fonttype": "none",
    # Names of clip paths are hashes of their content with this; without it they are drawn at random.
    "svg.hashsalt": "crosscloud comparison",
}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawing of a figure; `draw` fills its axes, `inches` is its width and height."""

    title: str
    draw: Callable[[Axes], None]
    inches: tuple[float, float] = PANEL_INCHES


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure: panels in rows of `columns`; `name` is the stem of its files."""

    name: str
    panels: tuple[Panel, ...]
    columns: int = 2


def rendered(panels: Sequence[Panel], kind: Literal["png", "svg"], *, columns: int = 1) -> bytes:
    """Draws panels beside and below each other.

    Args:
        panels: at least one.
        kind: of the file.
        columns: panels in a row.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width = columns * max(panel.inches[0] for panel in panels)
    height = sum(
        max(panel.inches[1] for panel in panels[row * columns : (row + 1) * columns]) for row in range(rows)
    )
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, each in zip(panels, axes, strict=False):
            panel.draw(each)
            each.set_title(panel.title, loc="left")
        for unused in axes[len(panels) :]:
            unused.set_axis_off()
        target = BytesIO()
        # A date or a version in the file would make it differ from one made of the same numbers.
        nothing: dict[str, Any] = (
            {"Software": None} if kind == "png" else dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
        figure.savefig(target, format=kind, dpi=160, metadata=nothing)
    return target.getvalue()


def inline_svg(panel: Panel) -> str:
    """A panel as an SVG element for an HTML page: no prologue, no address, and it takes the page's width."""
    text = rendered([panel], "svg").decode()
    text = text[text.index("<svg ") :]
    head, rest = text.split(">", 1)
    head = re.sub(r' (?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", head)
    return f'{head} role="img">{rest.replace("xlink:href", "href")}'


def style(method: str) -> dict[str, Any]:
    """Colour and marker of a method."""
    return {"color": COLOURS.get(method, OTHER_COLOUR), "marker": MARKERS.get(method, OTHER_MARKER)}


def band_line(
    axes: Axes, method: str, epsilon: float | None, points: Sequence[tuple[float, Band]], **how: Any
) -> None:
    """A method's line of means with the bands shaded and their ends marked."""
    if not points:
        return
    looks = style(method) | how
    xs = [place for place, _ in points]
    means = [value.mean for _, value in points]
    if all(value.half_width is not None for _, value in points):
        lows, highs = [value.low for _, value in points], [value.high for _, value in points]
        axes.fill_between(xs, lows, highs, color=looks["color"], alpha=0.13, linewidth=0)
    widths = [value.half_width or 0.0 for _, value in points]
    axes.errorbar(xs, means, yerr=widths, label=label(method, epsilon), capsize=2.5, elinewidth=1, **looks)


def band_level(axes: Axes, method: str, value: Band) -> None:
    """A horizontal line with its band, for a method that has no ε."""
    colour = COLOURS.get(method, OTHER_COLOUR)
    if value.half_width is not None:
        axes.axhspan(value.low, value.high, color=colour, alpha=0.1, linewidth=0)
    axes.axhline(value.mean, color=colour, linestyle=DASHES.get(method, "-"), label=label(method))


def legend_below(axes: Axes, columns: int = 3) -> None:
    """The legend under the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.17),
            ncols=columns,
            columnspacing=1.2,
            handlelength=1.8,
        )
