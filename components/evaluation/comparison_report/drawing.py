"""How figures look, and how they become files whose bytes depend on nothing but the numbers.

Colours are those of Okabe and Ito, which people with any colour vision tell apart; markers differ as well.
matplotlib's own window system is never loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Literal

from components.evaluation.comparison_report.bands import Band
from components.evaluation.comparison_report.records import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["png", "svg"]

COLOURS: Final = {
    "fedavg": "#5b5b5b",
    "smc-fl": "#d98e00",
    "he-fl": "#009e73",
    "dp-fl": "#0072b2",
    "ours": "#d55e00",
}
MARKERS: Final = {"fedavg": "s", "smc-fl": "P", "he-fl": "X", "dp-fl": "o", "ours": "D"}
DASHES: Final = {"fedavg": (0, (1, 1)), "smc-fl": (0, (5, 3)), "he-fl": (0, (2, 2))}
OTHER_COLOUR: Final = "#cc79a7"
OTHER_MARKER: Final = "*"
PANEL_INCHES: Final = (4.2, 3.7)  # so that letters are 11 pixels high on a phone
_STYLE: Final[dict[str, Any]] = {
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.titlesize": 10.0,
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


def rendered(panels: Sequence[Panel], *kinds: Kind, columns: int = 1) -> dict[Kind, bytes]:
    """Draws panels beside and below each other, once for all kinds of files.

    Args:
        panels: at least one.
        kinds: of files.
        columns: panels in a row.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    width = columns * max(panel.inches[0] for panel in panels)
    heights = [max(panel.inches[1] for panel in row) for row in rows]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights).ravel()
        for panel, each in zip(panels, axes, strict=False):
            panel.draw(each)
            each.set_title(panel.title, loc="left")
        for unused in axes[len(panels) :]:
            unused.set_axis_off()
        layout = figure.get_layout_engine()
        if layout is not None:
            # Once is enough: saving would lay the same figure out again for each file.
            layout.execute(figure)
            figure.set_layout_engine("none")
        return {kind: _saved(figure, kind) for kind in kinds}


def _saved(figure: Figure, kind: Kind) -> bytes:
    # A date or a version in the file would make it differ from one made of the same numbers.
    unsaid = ("Software",) if kind == "png" else ("Date", "Creator", "Format", "Type")
    nothing: dict[str, Any] = dict.fromkeys(unsaid)
    target = BytesIO()
    figure.savefig(target, format=kind, dpi=160, metadata=nothing)
    return target.getvalue()


def inline_svg(panel: Panel) -> str:
    """A panel as an SVG element for an HTML page: no prologue, no address, and it takes the page's width."""
    text = rendered([panel], "svg")["svg"].decode()
    text = text[text.index("<svg ") :]
    head, rest = text.split(">", 1)
    head = re.sub(r' (?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", head)
    # Names that nothing refers to, as axes_1, would be those of every other panel on the page too.
    body = re.sub(r' id="[\w.]+_\d+"|<!--.*?-->', "", rest.replace("xlink:href", "href"))
    return f'{head} role="img">{body}'


def style(method: str) -> dict[str, Any]:
    """Colour and marker of a method."""
    return {"color": COLOURS.get(method, OTHER_COLOUR), "marker": MARKERS.get(method, OTHER_MARKER)}


def band_line(
    axes: Axes,
    method: str,
    epsilon: float | None,
    points: Sequence[tuple[float, Band]],
    *,
    shaded: bool,
    aside: float = 1.0,
) -> None:
    """A method's line of means with the ends of the bands, named in the legend even without a point.

    Args:
        axes: to draw on.
        method: whose line it is.
        epsilon: its ε, where the legend is to say it.
        points: place on the axis, and band.
        shaded: shade the bands, where few lines lie above each other.
        aside: factor on the places, so that equal lines are seen side by side.
    """
    xs = [aside * place for place, _ in points]
    banded = all(value.half_width is not None for _, value in points)
    if shaded and banded and points:
        lows, highs = [value.low for _, value in points], [value.high for _, value in points]
        axes.fill_between(xs, lows, highs, color=style(method)["color"], alpha=0.13, linewidth=0)
    axes.errorbar(
        xs,
        [value.mean for _, value in points],
        yerr=[value.half_width or 0.0 for _, value in points],
        label=label(method, epsilon),
        capsize=2.5,
        elinewidth=1,
        **style(method),
    )


def aside(places: Sequence[float], rank: int, count: int) -> float:
    """Factor that moves the `rank`-th of `count` lines aside, by 50ths of a logarithmic axis."""
    span = math.log(places[-1] / places[0]) if len(places) > 1 else 1.0
    return math.exp(span * 0.02 * (rank - (count - 1) / 2))


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
            handlelength=2.4,
        )
