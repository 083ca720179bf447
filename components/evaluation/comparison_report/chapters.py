"""What is told of a data set: a chapter for each figure, with the table of its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from components.evaluation.comparison_report import prose, tables
from components.evaluation.comparison_report.convergence import HIDDEN_UNITS, LEARNING_RATE
from components.evaluation.comparison_report.learning_relations import learning_relations
from components.evaluation.comparison_report.protection import Protection
from components.evaluation.comparison_report.records import DataSet, label
from components.evaluation.comparison_report.relations import (
    WORDS,
    Relation,
    protection_relations,
    spoken,
)
from components.evaluation.comparison_report.tables import Table
from components.evaluation.comparison_report.wording import in_band

TITLES: Final = {
    "protection": "Protection against ε",
    HIDDEN_UNITS: "Rounds to the target against hidden units",
    LEARNING_RATE: "Training time and rounds against the learning rate",
    "costs": "Bytes and seconds by step",
    "migration": "Adaptation on each cloud",
}
CAPTIONS: Final = {
    "protection": prose.PROTECTION,
    HIDDEN_UNITS: f"{prose.HIDDEN_UNITS} {prose.UNREACHED}",
    LEARNING_RATE: f"{prose.LEARNING_RATE} {prose.UNREACHED}",
    "costs": prose.COSTS,
    "migration": prose.MIGRATION,
}


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A figure's words and numbers.

    Attributes:
        figure: its name.
        title: of the chapter.
        caption: what is drawn and how to read it.
        tables: every number behind it.
    """

    figure: str
    title: str
    caption: str
    tables: tuple[Table, ...]


def relations(measured: DataSet) -> list[Relation]:
    """Every claim with its verdicts."""
    return [*protection_relations(measured), *learning_relations(measured)]


def chapters(measured: DataSet) -> list[Chapter]:
    """Chapters of the figures that have records, in the order of `TITLES`."""
    found = []
    for figure, title in TITLES.items():
        made = tables.of_figure(measured, figure)
        if made:
            caption = CAPTIONS[figure] + (_ends(measured) if figure == "protection" else "")
            found.append(Chapter(figure=figure, title=title, caption=caption, tables=made))
    return found


def missing_figures(measured: DataSet) -> list[str]:
    """Titles of the figures that have no records."""
    told = {chapter.figure for chapter in chapters(measured)}
    return [title for figure, title in TITLES.items() if figure not in told]


def verdict_sentences(told: Sequence[Relation]) -> list[tuple[str, str]]:
    """(word, sentence) for each of `WORDS`, in plain words and empty ones left out."""
    return [(word, "; ".join(claims)) for word in WORDS if (claims := spoken(told, word))]


def _ends(measured: DataSet) -> str:
    """What was measured at the ends of figure 1's axis."""
    protection = Protection(measured)
    parts = []
    for method in dict.fromkeys(method for method, epsilon in protection.points if epsilon is not None):
        epsilons = [epsilon for name, epsilon in protection.points if name == method and epsilon is not None]
        ends = [tables.effect(protection, "example-level attacks", method, each) for each in epsilons]
        told = [(each, value) for each, value in zip(epsilons, ends, strict=True) if value is not None]
        if len(told) > 1:
            (low, first), (high, last) = told[0], told[-1]
            parts.append(
                f"{label(method)} {in_band(first)} at ε = {low:g} and {in_band(last)} at ε = {high:g}"
            )
    return f" Measured under example-level attacks: {'; '.join(parts)}." if parts else ""
