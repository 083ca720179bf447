"""Relations as tables: one that says it all at a glance, one with the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from components.evaluation.comparison_report.protection import MEASURES
from components.evaluation.comparison_report.relations import WORDS, Relation, said_once
from components.evaluation.comparison_report.tables import Table
from components.evaluation.comparison_report.wording import NONE


def at_a_glance(relations: Sequence[Relation]) -> Table:
    """A row for each claim; claims about protection have a verdict under each measure."""
    rows: dict[str, dict[str, str]] = {}
    for relation in relations:
        protects = relation.under in MEASURES
        name = (
            relation.claim if protects or not relation.under else f"{relation.claim}, under {relation.under}"
        )
        rows.setdefault(name, {})[relation.under if protects else MEASURES[0]] = _verdicts(relation)
    return Table(
        caption="Verdicts; those of claims that are not about protection stand in the first column.",
        columns=("claim", *MEASURES),
        rows=tuple(
            (name, *(found.get(measure, NONE) for measure in MEASURES)) for name, found in rows.items()
        ),
    )


def with_numbers(relations: Sequence[Relation]) -> Table:
    """A row for each verdict."""
    rows = [
        (relation.claim, relation.under or NONE, verdict.at, verdict.word, verdict.finding)
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
