"""`RESULTS.md`: what was found, first of all what does not hold; each data set's parts can be kept.

The page is made from `results.json` alone and is the same bytes for the same JSON. Marks in comments say
which data set a part is of, so that measuring one data set does not lose what was told of another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from components.evaluation.comparison_report import prose
from components.evaluation.comparison_report.chapters import (
    chapters,
    missing_figures,
    relations,
    verdict_sentences,
)
from components.evaluation.comparison_report.records import DataSet
from components.evaluation.comparison_report.relations import FAILS, HOLDS, TIE, UNMEASURED
from components.evaluation.comparison_report.tables import Table, choices
from components.evaluation.comparison_report.verdict_tables import at_a_glance, with_numbers
from components.evaluation.comparison_report.wording import duration, listed

OPENING: Final = "# Results of the comparison"
_SAYS: Final = {
    FAILS: "**these do not hold**: {}.",
    TIE: "These are ties: {}.",
    HOLDS: "These hold: {}.",
    UNMEASURED: "These are not measured: {}.",
}
_KEPT_LINE: Final = re.compile(r"^.+ <!-- relations of (?P<name>[^<>]+) -->$", re.MULTILINE)
_KEPT_PART: Final = re.compile(
    r"^<!-- begin (?P<name>[^<>]+) -->$.*?^<!-- end (?P=name) -->$", re.MULTILINE | re.DOTALL
)

_KEPT_AUDIT: Final = re.compile(
    r"^<!-- begin audit of (?P<name>[^<>]+) -->$.*?^<!-- end audit of (?P=name) -->$",
    re.MULTILINE | re.DOTALL,
)


def results_page(
    measured: Sequence[DataSet], existing: str = "", audits: Mapping[str, str] | None = None
) -> str:
    """Returns the page.

    Args:
        measured: data sets to tell of.
        existing: the page as it is, whose parts about other data sets and audits are kept as they are.
        audits: parts about audits, by federation.
    """
    told = _found(_KEPT_AUDIT, existing) | {
        name: f"<!-- begin audit of {name} -->\n\n{text}\n\n<!-- end audit of {name} -->"
        for name, text in (audits or {}).items()
    }
    existing = _KEPT_AUDIT.sub("", existing)
    lines = _found(_KEPT_LINE, existing) | {one.name: _relations_line(one) for one in measured}
    parts = _found(_KEPT_PART, existing) | {one.name: _part(one) for one in measured}
    names = sorted(lines.keys() & parts.keys())
    return "\n".join(
        [
            OPENING,
            "",
            # One paragraph: a line for each data set and no empty line between.
            *(lines[name] for name in names),
            "",
            prose.JUDGED + " " + prose.BANDS,
            "",
            "This page is written by `make compare` from `build/compare/results.json`; figures and the full "
            "report lie beside that file.",
            *(f"\n{told[name]}" for name in sorted(told)),
            *(f"\n{parts[name]}" for name in names),
            "",
        ]
    )


def _found(pattern: re.Pattern[str], existing: str) -> dict[str, str]:
    return {match["name"]: match[0] for match in pattern.finditer(existing)}


def _relations_line(measured: DataSet) -> str:
    sentences = dict(verdict_sentences(relations(measured)))
    told = [_SAYS[word].format(_escaped(text)) for word, text in sentences.items()]
    if FAILS not in sentences:
        judged = bool({TIE, HOLDS} & sentences.keys())
        told.insert(0, "no relation fails to hold." if judged else "no relation could be judged.")
    quick = " (a reduced run, which shows that everything works and no more)" if measured.quick else ""
    return f"On **{measured.name}**{quick}, {' '.join(told)} <!-- relations of {measured.name} -->"


def _part(measured: DataSet) -> str:
    blocks = [f"<!-- begin {measured.name} -->", f"## {_escaped(measured.name)}", _about(measured)]
    missing = missing_figures(measured)
    if missing:
        blocks.append(f"Not measured here: {'; '.join(missing)}.")
    found = relations(measured)
    blocks += ["### Relations", _markdown(at_a_glance(found))]
    blocks += _folded(with_numbers(found))
    for chapter in chapters(measured):
        blocks += [f"### {chapter.title}", _escaped(chapter.caption)]
        if chapter.figure == "protection":
            blocks.append(prose.ATTACKS)
        for table in chapter.tables:
            blocks += [_escaped(table.caption), _markdown(table)]
    plans = choices(measured)
    if plans is not None:
        blocks += ["### Plans", plans.caption, _markdown(plans)]
    blocks += ["### How it was measured", _measured(measured), f"<!-- end {measured.name} -->"]
    return "\n\n".join(blocks)


def _about(measured: DataSet) -> str:
    return _escaped(f"{listed(measured.about)}.")


def _measured(measured: DataSet) -> str:
    by_figure = "; ".join(f"{name} {duration(value)}" for name, value in measured.figure_seconds.items())
    lines = [
        f"- Command: `{measured.command.replace('`', chr(39))}`",
        f"- Seeds: {', '.join(map(str, measured.seeds))}",
        f"- Hardware: {listed(measured.machine)}",
        f"- Versions: {listed(measured.versions)}",
        f"- Time: {duration(measured.seconds)} in all"
        + (f"; time of processes by figure: {by_figure}" if by_figure else ""),
        f"- Finished: {measured.measured_at}",
    ]
    return "\n".join(line if line.startswith("- Command") else _escaped(line) for line in lines)


def _folded(table: Table) -> list[str]:
    """A long table that opens on demand where the page is rendered."""
    return ["<details>", f"<summary>{table.caption}</summary>", _markdown(table), "</details>"]


def _markdown(table: Table) -> str:
    lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Keeps text from outside from being markup."""
    return re.sub(r"([|<>`*_\[\]\\])", r"\\\1", " ".join(text.split()))
