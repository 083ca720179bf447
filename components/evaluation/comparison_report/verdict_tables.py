"""Relations as tables: one that says it all at a glance, one with the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from components.evaluation.comparison_report.protection import MEASURES
from components.evaluation.comparison_report.relations import WORDS, Relation, said_once
from components.evaluation.comparison_report.tables import Table
from components.evaluation.comparison_report.wording import NONE


def at_a_glance(relations: Sequence[Relation]) -> Table:
    """A row for each claim; claims about protection have a verdict under each measure."""
    claims = dict.fromkeys(relation.claim for relation in relations)
    rows = []
    for claim in claims:
        by_measure = {
            relation.measure: _verdicts(relation) for relation in relations if relation.claim == claim
        }
        if "" in by_measure:
            rows.append((claim, by_measure[""], *[NONE] * (len(MEASURES) - 1)))
        else:
            rows.append((claim, *(by_measure.get(measure, NONE) for measure in MEASURES)))
    return Table(caption="Verdicts.", columns=("claim", *MEASURES), rows=tuple(rows))


def with_numbers(relations: Sequence[Relation]) -> Table:
    """A row for each verdict."""
    rows = [
        (relation.claim, relation.measure or NONE, verdict.at, verdict.word, verdict.finding)
        for relation in relations
        for verdict in relation.verdicts
    ]
    columns = ("claim", "under", "at", "verdict", "found")
    return Table(caption="Every verdict with its numbers.", columns=columns, rows=tuple(rows))


def _verdicts(relation: Relation) -> str:
    told = []
    for word in WORDS:
        places = relation.places(word)
        if places:
            told.append(word if len(places) == len(relation.verdicts) else f"{word} at {said_once(places)}")
    return "; ".join(told)
