"""The figures: what is drawn where, and that the same numbers give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from components.evaluation.comparison_report.convergence import HIDDEN_UNITS, LEARNING_RATE, series, settings
from components.evaluation.comparison_report.costs import costs
from components.evaluation.comparison_report.drawing import (
    COLOURS,
    MARKERS,
    Drawing,
    inline_svg,
    rendered,
)
from components.evaluation.comparison_report.figures import (
    FIGURES,
    costs_figure,
    hidden_units_figure,
    migration_figure,
    protection_figure,
)
from components.evaluation.comparison_report.records import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tests.components.evaluation.comparison_report.conftest import Results


def drawn(panel_number: int, drawing: Drawing | None) -> Axes:
    from matplotlib.figure import Figure

    assert drawing is not None
    axes = Figure().subplots()
    drawing.panels[panel_number].draw(axes)
    return axes


def test_every_method_has_its_own_colour_and_marker() -> None:
    assert set(COLOURS) == set(MARKERS) == set(METHODS)
    assert len(set(COLOURS.values())) == len(set(MARKERS.values())) == len(METHODS)


def test_every_figure_is_there_with_its_records_and_not_without(results: Results) -> None:
    full, empty = results.data_set(results.full()), results.data_set([])
    counts = {name: len(made.panels) for name, figure in FIGURES.items() if (made := figure(full))}
    assert counts == {"protection": 4, HIDDEN_UNITS: 8, LEARNING_RATE: 4, "costs": 2, "migration": 1}
    assert [figure(empty) for figure in FIGURES.values()] == [None] * 5


def test_protection_has_lines_over_epsilon_and_levels_without(results: Results) -> None:
    records = results.protections("fedavg", None, [0.3, 0.3, 0.3])
    records += results.protections("ours", 1.0, [0.9, 0.9, 0.9]) + results.protections("ours", 4.0, [0.7] * 3)
    drawing = protection_figure(results.data_set(records))
    assert drawing is not None
    # There is no centralised training to divide by, so no product is drawn.
    assert [panel.title for panel in drawing.panels] == [
        "protection\nall attacks",
        "protection\nexample-level attacks",
    ]
    axes = drawn(0, drawing)
    heights = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
    assert any(np.allclose(line, 0.3) for line in heights)
    assert any(line.shape == (2,) and np.allclose(line, [0.9, 0.7]) for line in heights)
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["FedAvg", "ours"]
    assert "less noise" in axes.get_xlabel()


def test_runs_that_never_got_there_are_marks_and_not_gaps(results: Results) -> None:
    records = results.convergences([10, 10], hidden_units=32)
    records += results.convergences([None, None], hidden_units=64)
    records += results.convergences([None, 20], hidden_units=128, ended="diverged", length=5)
    measured = results.data_set(records)
    (line,) = series(measured, HIDDEN_UNITS, settings(measured, HIDDEN_UNITS)[0], "rounds_to_85")
    assert [cell.text() for cell in line.cells.values()] == [
        "10.0 ± 0.0",
        "not reached",
        "20.0, diverged 1 of 2",
    ]
    axes = drawn(0, hidden_units_figure(measured))
    top = axes.get_xaxis_transform()
    marks = [one for one in axes.get_lines() if one.get_transform() == top and one.get_linestyle() == "None"]
    places = [np.asarray(one.get_xydata(), float)[0] for one in marks]
    assert [(place[0], one.get_marker()) for place, one in zip(places, marks, strict=True)] == [
        (64.0, "D"),
        (128.0, "x"),
    ]
    assert min(place[1] for place in places) > 0.9
    # The lines stay below the strip of the marks.
    assert 20.0 / axes.get_ylim()[1] < 0.9


def test_a_panel_without_a_run_that_got_there_says_so(results: Results) -> None:
    axes = drawn(0, hidden_units_figure(results.data_set(results.convergences([None, None]))))
    assert [text.get_text() for text in axes.texts] == ["no run reached the target"]
    assert list(axes.get_yticks()) == []


def test_costs_add_up_by_step_and_party(results: Results) -> None:
    steps = [
        {"step": "train", "who": "site", "seconds": 0.5, "bytes": 0},
        {"step": "share", "who": "site", "seconds": 0.25, "bytes": 100},
        {"step": "share", "who": "site", "seconds": 0.25, "bytes": 50},
        {"step": "add", "who": "aggregator", "seconds": 0.125, "bytes": 8},
    ]
    records = [
        results.record("costs", {"parameters": 10, "sites": 4, "steps": steps[-1:]}, method="fedavg"),
        results.record("costs", {"parameters": 10, "sites": 4, "steps": steps}, method="ours"),
    ]
    found = costs(results.data_set(records))
    assert found.rows == (("train", "site"), ("share", "site"), ("add", "aggregator"))
    assert (found.value(("share", "site"), "ours", "bytes"), found.total("ours", "seconds")) == (150, 1.125)
    assert (found.total("ours", "bytes", "site"), found.total("fedavg", "bytes", "site")) == (150, 0)
    axes = drawn(0, costs_figure(results.data_set(records)))
    assert [text.get_text() for text in axes.texts] == ["–", "–", "–", "150 B", "8 B", "8 B"]


def test_the_same_numbers_give_the_same_bytes(results: Results) -> None:
    clouds = {"cloud-1": [(0.8, 0.7, 0.85), (0.8, 0.7, 0.851)]}
    both = []
    for _ in range(2):
        drawing = migration_figure(results.data_set(results.migrations(clouds)))
        assert drawing is not None
        both.append(rendered(drawing.panels, "png", "svg"))
    assert both[0] == both[1]
    assert both[0]["png"].startswith(b"\x89PNG")
    assert both[0]["svg"].rstrip().endswith(b"</svg>")
    for name in (b"Software", b"dc:date", b"metadata", b"tEXt"):
        assert name not in both[0]["svg"] + both[0]["png"]


def test_an_inline_drawing_has_no_address_and_takes_any_width(results: Results) -> None:
    clouds = {"cloud-1": [(0.8, 0.7, 0.85), (0.8, 0.7, 0.851)]}
    drawing = migration_figure(results.data_set(results.migrations(clouds)))
    assert drawing is not None
    text = inline_svg(drawing.panels[0])
    head = text[: text.index(">")]
    assert "viewBox" in head
    assert "width" not in head
    assert "http" not in text
    # What is drawn refers to is there under the same name.
    names = {part.split('"')[0] for part in text.split(' id="')[1:]}
    assert {part.split('"')[0] for part in text.split('href="#')[1:]} <= names
    assert {part.split(")")[0] for part in text.split("url(#")[1:]} <= names
