"""Writes everything there is to see of a comparison, from `results.json` alone."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from components.errors import StoreError
from components.evaluation.comparison_report.chapters import missing_figures
from components.evaluation.comparison_report.drawing import Drawing, rendered
from components.evaluation.comparison_report.figures import FIGURES
from components.evaluation.comparison_report.page import render
from components.evaluation.comparison_report.records import DataSet, read_results
from components.evaluation.comparison_report.results_page import results_page as written_page


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """What was written.

    Attributes:
        page: the HTML report.
        figures: PNG and SVG files.
        results_page: the Markdown page; None where none was asked for.
        missing: by data set, titles of the figures that have no records yet.
    """

    page: Path
    figures: tuple[Path, ...]
    results_page: Path | None
    missing: dict[str, tuple[str, ...]]


def write_comparison(results: Path, *, output: Path, results_page: Path | None = None) -> ComparisonReport:
    """Writes the figures, the report and the results page; each file is there whole or not at all.

    Args:
        results: `results.json`, which may hold a part of the records only.
        output: folder for `report.html` and `figures/`.
        results_page: where to write `RESULTS.md`, of which parts about other data sets are kept.

    Raises:
        IntegrityError: `results` is not a comparison's results.
        StoreError: a file cannot be written, as when the disk is full.
    """
    data_sets = read_results(results)
    drawings = {one.name: _drawings(one) for one in data_sets}
    figures = []
    for one in data_sets:
        for drawing in drawings[one.name]:
            stem = output / "figures" / f"{slug(one.name)}-{drawing.name}"
            for kind, content in rendered(drawing.panels, "png", "svg", columns=drawing.columns).items():
                path = stem.with_name(f"{stem.name}.{kind}")
                write_file(path, content)
                figures.append(path)
    page = output / "report.html"
    write_file(page, render(data_sets, drawings).encode())
    if results_page is not None:
        existing = results_page.read_text(encoding="utf-8") if results_page.exists() else ""
        write_file(results_page, written_page(data_sets, existing).encode())
    return ComparisonReport(
        page=page,
        figures=tuple(figures),
        results_page=results_page,
        missing={one.name: tuple(missing_figures(one)) for one in data_sets},
    )


def slug(name: str) -> str:
    """A data set's name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "data"


def _drawings(measured: DataSet) -> list[Drawing]:
    made = [figure(measured) for figure in FIGURES.values()]
    return [drawing for drawing in made if drawing is not None]


def write_file(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all.

    Raises:
        StoreError: it cannot be written, as when the disk is full.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
