"""What an update of a handful of rows gives away of these rows themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.agreement.protections import NONE
from components.evaluation.attacks.advantage import Attempt, attempt, halves
from components.evaluation.attacks.inversion import candidate_scores, inverted
from components.evaluation.attacks.sighting import Sighting
from components.evaluation.method_measurement.configurations import Configuration
from components.evaluation.method_measurement.experiment import Deal
from components.evaluation.method_measurement.views import (
    AGGREGATOR,
    MODEL,
    PARTICIPANT,
    contributions_told,
    sealed_sightings,
)
from components.evaluation.rehearsal.corpus import Corpus
from components.evaluation.rehearsal.dealing import taken
from components.evaluation.rehearsal.plans import Plan
from components.evaluation.rehearsal.rounds import Rehearsal, Round
from components.training.features import Examples

INVERSION: Final = "inversion"
ROWS: Final = 8
"""Of a site in a small batch."""
SEALED_BATCHES: Final = 5
"""Batches whose sealed bytes are made: sealing takes longer than the attack."""
_SEED: Final = 6000


@dataclass(frozen=True, kw_only=True)
class Inverted:
    """Attempts, and by view the share of rows that are nearest to what was inverted for their class."""

    attempts: list[Attempt]
    reidentified: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One sighting, the rows that are in it, as many that are not, and all that it could have been."""

    view: str
    sighting: Sighting
    members: Examples
    others: Examples
    pool: Examples


def inversion_attempts(configuration: Configuration, corpus: Corpus, deal: Deal, plan: Plan) -> Inverted:
    """Inverts the first round's update of small batches, under every view.

    Members are a batch's rows; the others are rows of the same classes that no batch of the round holds.
    """
    scores: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    truth: dict[tuple[str, str], list[NDArray[np.bool_]]] = {}
    hits: dict[str, list[bool]] = {}
    for seen in _sightings(configuration, corpus, deal, plan):
        found = inverted(seen.sighting)
        for place, (variant, rows) in enumerate(found.items()):
            key = (seen.view, variant)
            ours, theirs = (candidate_scores(rows, each) for each in (seen.members, seen.others))
            scores.setdefault(key, []).append(np.concatenate([ours, theirs]))
            truth.setdefault(key, []).append(np.arange(len(ours) + len(theirs)) < len(ours))
            if not place:
                hits.setdefault(seen.view, []).extend(_nearest(rows, ours, seen))
    attempts = []
    for (view, variant), parts in scores.items():
        together, is_member = np.concatenate(parts), np.concatenate(truth[view, variant])
        half = halves(len(together), configuration["seed"] + _SEED)
        attempts.append(attempt(INVERSION, view, variant, scores=together, is_member=is_member, half=half))
    return Inverted(
        attempts=attempts, reidentified={view: float(np.mean(found)) for view, found in hits.items()}
    )


def _sightings(configuration: Configuration, corpus: Corpus, deal: Deal, plan: Plan) -> Iterator[_Seen]:
    seed = configuration["seed"]
    generator = np.random.Generator(np.random.PCG64(seed + _SEED))
    plan = replace(plan, batch_size=ROWS)
    rehearsal = deal.rehearsal(plan, seed=seed)
    for repetition in range(configuration["batches"]):
        batches = {
            site: taken(rows, generator.permutation(len(rows.labels))[:ROWS])
            for site, rows in deal.train.items()
        }
        found = _first_round(rehearsal, batches, repetition)
        rest = _others(corpus.train, batches, generator)
        first, *others = batches
        own = {site: contributions_told(rehearsal, found, found.vectors[site]) for site in batches}
        total = rehearsal.decoded(found.total, found.number)[:-1]
        pool = corpus.train
        for view, seen, sites in (
            (PARTICIPANT, total - own[first], others),
            (MODEL, total, list(batches)),
        ):
            sighting = _sighting(found, seen)
            yield _seen(
                view, sighting, [batches[site] for site in sites], [rest[site] for site in sites], pool
            )
        for site, sighting in _updates(rehearsal, found, own, repetition).items():
            yield _seen(AGGREGATOR, sighting, [batches[site]], [rest[site]], pool)


def _first_round(rehearsal: Rehearsal, batches: Mapping[str, Examples], repetition: int) -> Round:
    """Round 1 on these rows alone; nothing is committed."""
    ticket, model = rehearsal.ticket(1), rehearsal.genesis
    vectors = {
        site: rehearsal.vector(ticket, model, site, rows, repetition=repetition)
        for site, rows in batches.items()
    }
    return rehearsal.shown(1, model, vectors)


def _updates(
    rehearsal: Rehearsal, found: Round, own: Mapping[str, NDArray[np.float64]], repetition: int
) -> dict[str, Sighting]:
    if rehearsal.plan.protection == NONE:
        return {site: _sighting(found, values) for site, values in own.items()}
    return sealed_sightings(rehearsal, found, found.vectors) if repetition < SEALED_BATCHES else {}


def _others(
    everything: Examples, batches: Mapping[str, Examples], generator: np.random.Generator
) -> dict[str, Examples]:
    """For each batch as many rows of its classes, drawn from all rows; one of a batch by chance is rare."""
    found = {}
    for site, batch in batches.items():
        places = [int(generator.choice(np.flatnonzero(everything.labels == label))) for label in batch.labels]
        found[site] = taken(everything, np.array(places, np.int64))
    return found


def _sighting(found: Round, seen: NDArray[np.float64]) -> Sighting:
    return Sighting(of=found.of, model=found.before, seen=seen, background=np.zeros(seen.size), deviation=0.0)


def _seen(
    view: str, sighting: Sighting, members: Sequence[Examples], others: Sequence[Examples], pool: Examples
) -> _Seen:
    return _Seen(view=view, sighting=sighting, members=_joined(members), others=_joined(others), pool=pool)


def _joined(parts: Sequence[Examples]) -> Examples:
    return Examples(
        features=np.concatenate([part.features for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )


def _nearest(rows: NDArray[np.float64], own: NDArray[np.float64], seen: _Seen) -> list[bool]:
    """Of each member, whether no row of its class in the whole pool fits the inversion better."""
    found = []
    for score, label in zip(own, seen.members.labels, strict=True):
        rivals = taken(seen.pool, seen.pool.labels == label)
        found.append(bool(score >= candidate_scores(rows, rivals).max() - 1e-9))
    return found
