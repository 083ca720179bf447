"""The report as one HTML page: nothing is fetched, nothing runs, everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from components.evaluation.comparison_report import prose
from components.evaluation.comparison_report.chapters import (
    Chapter,
    chapters,
    missing_figures,
    relations,
    verdict_sentences,
)
from components.evaluation.comparison_report.drawing import Drawing, inline_svg
from components.evaluation.comparison_report.records import DataSet
from components.evaluation.comparison_report.relations import FAILS, HOLDS, TIE, UNMEASURED, Relation
from components.evaluation.comparison_report.tables import Table, choices
from components.evaluation.comparison_report.verdict_tables import at_a_glance
from components.evaluation.comparison_report.wording import duration, listed

if TYPE_CHECKING:
    from jinja2 import Environment

STYLES: Final = {FAILS: "fails", TIE: "tie", HOLDS: "holds", UNMEASURED: "unmeasured"}


@dataclass(frozen=True, kw_only=True)
class Part:
    """All that the page tells of one data set."""

    measured: DataSet
    sentences: Sequence[tuple[str, str]]
    glance: Table
    relations: Sequence[Relation]
    chapters: Sequence[tuple[Chapter, Sequence[tuple[str, str]]]]
    plans: Table | None
    missing: Sequence[str]


def render(data_sets: Sequence[DataSet], drawings: Mapping[str, Sequence[Drawing]]) -> str:
    """Returns the page.

    Args:
        data_sets: in the order in which they are told.
        drawings: figures of each, by its name.
    """
    parts = [_part(one, drawings.get(one.name, ())) for one in data_sets]
    return _environment().get_template("page.html").render(parts=parts, prose=prose, styles=STYLES)


def _part(measured: DataSet, drawings: Sequence[Drawing]) -> Part:
    panels = {drawing.name: drawing.panels for drawing in drawings}
    found = relations(measured)
    return Part(
        measured=measured,
        sentences=verdict_sentences(found),
        glance=at_a_glance(found),
        relations=found,
        chapters=[
            (chapter, [(panel.title, inline_svg(panel)) for panel in panels.get(chapter.figure, ())])
            for chapter in chapters(measured)
        ],
        plans=choices(measured),
        missing=missing_figures(measured),
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
    environment.filters |= {"duration": duration, "listed": listed}
    return environment
