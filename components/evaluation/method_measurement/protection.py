"""How well a method protects: every attack on what every party sees, and the accuracy that it pays for.

Three trainings: one as it is, whose updates are asked for classes; one with canaries among the rows, whose
trajectory is asked which of them were in; and rounds on a handful of rows, whose updates are inverted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import LOCAL_PRIVACY
from components.evaluation.attacks.advantage import Attempt, attempt, halves
from components.evaluation.attacks.canaries import (
    Canaries,
    drawn_canaries,
    model_scores,
    trajectory_scores,
)
from components.evaluation.method_measurement.classes_told import ClassesTold, class_attempts
from components.evaluation.method_measurement.configurations import Configuration
from components.evaluation.method_measurement.experiment import Deal, converging, deal_of
from components.evaluation.method_measurement.small_batches import inversion_attempts
from components.evaluation.method_measurement.views import (
    AGGREGATOR,
    MODEL,
    PARTICIPANT,
    Views,
    add_round,
    in_unit_of_sums,
)
from components.evaluation.rehearsal.corpus import Corpus
from components.evaluation.rehearsal.dealing import taken
from components.evaluation.rehearsal.plans import Plan
from components.evaluation.rehearsal.rounds import Rehearsal, Round, accuracy
from components.training.features import Examples

CANARY_ATTACK: Final = "canaries"
_SILENT: Final = 1e-9
"""σ of steps that only tell what is to be expected."""
_CANARY_SEED: Final = 4000
_HALF_SEED: Final = 5000


def protection(configuration: Configuration, corpus: Corpus, *, plan: Plan) -> dict[str, Any]:
    """All attacks on one training, and what the model is good for.

    Args:
        configuration: of kind `protection`.
        corpus: to be learned from; its test rows are the public rows that the adversary has.
        plan: chosen on validation rows, with a linear head.
    """
    seed = configuration["seed"]
    plan = replace(plan, method=configuration["method"])
    deal = deal_of(
        corpus, sites=configuration["sites"], concentration=configuration["concentration"], seed=seed
    )
    curve, told = _as_it_is(configuration, deal, plan)
    inverted = inversion_attempts(configuration, corpus, deal, plan)
    attempts = [*_canary_attempts(configuration, deal, plan), *told.attempts, *inverted.attempts]
    return {
        "accuracy": curve[-1] if curve else 0.0,
        "curve": [round(value, 4) for value in curve],
        "attempts": [each.to_dict() for each in attempts],
        "label_error": told.label_error,
        "reidentified": inverted.reidentified,
    }


def _as_it_is(configuration: Configuration, deal: Deal, plan: Plan) -> tuple[list[float], ClassesTold]:
    """Accuracy after every round of a training without canaries, and what its updates tell of classes."""
    seed = configuration["seed"]
    rehearsal, views, curve = deal.rehearsal(plan, seed=seed), Views(), []
    for found in converging(rehearsal):
        curve.append(accuracy(found.after, deal.pooled_test))
        sealed = found.number <= configuration["sealed_rounds"]
        expected = {site: np.zeros(found.opened.size - 1) for site in deal.train}
        add_round(views, rehearsal, found, expected=expected, sealed=sealed)
    return curve, class_attempts(views, deal, seed=seed + _HALF_SEED)


def _canary_attempts(configuration: Configuration, deal: Deal, plan: Plan) -> list[Attempt]:
    """White-box membership inference on the whole trajectory, and on the last model alone."""
    seed, sites = configuration["seed"], list(deal.train)
    canaries = drawn_canaries(
        configuration["canaries"],
        sites=len(sites),
        features=deal.pooled_test.features.shape[1],
        classes=deal.classes,
        generator=np.random.Generator(np.random.PCG64(seed + _CANARY_SEED)),
    )
    planted = replace(deal, train=_planted(deal, canaries))
    rehearsal, views = planted.rehearsal(plan, seed=seed), Views()
    silent = planted.rehearsal(_silent(plan), seed=seed)
    public = {site: _of_prior(deal.train[site], deal.pooled_test, seed) for site in sites}
    model = rehearsal.genesis
    for found in converging(rehearsal):
        expected = {site: _expected(silent, found, site, rows) for site, rows in public.items()}
        sealed = found.number <= configuration["sealed_rounds"]
        add_round(views, rehearsal, found, expected=expected, sealed=sealed)
        model = found.after
    half, everybody = halves(len(canaries.included), seed + _HALF_SEED), np.arange(len(canaries.included))
    asked, public_rows = partial(_on, canaries=canaries, half=half), deal.pooled_test
    others = np.flatnonzero(canaries.owners > 0)
    rest = trajectory_scores(views.rest, taken(canaries.examples, others), public_rows)
    sums = trajectory_scores(views.sums, canaries.examples, public_rows)
    return [
        *asked(AGGREGATOR, _on_updates(views, canaries, public_rows), looked_at=everybody),
        *asked(PARTICIPANT, rest, looked_at=others),
        *asked(MODEL, sums | model_scores(model, canaries.examples), looked_at=everybody),
    ]


def _on_updates(views: Views, canaries: Canaries, public: Examples) -> dict[str, NDArray[np.float64]]:
    """Each canary is looked for in the updates of the site that may have it."""
    scores: dict[str, NDArray[np.float64]] = {}
    for number, sightings in enumerate(views.updates.values()):
        own = np.flatnonzero(canaries.owners == number)
        for variant, found in trajectory_scores(sightings, taken(canaries.examples, own), public).items():
            scores.setdefault(variant, np.zeros(len(canaries.owners)))[own] = _standard(found)
    return scores


def _on(
    view: str,
    scores: Mapping[str, NDArray[np.float64]],
    *,
    looked_at: NDArray[np.int64],
    canaries: Canaries,
    half: NDArray[np.bool_],
) -> list[Attempt]:
    """One attempt a variant; scores are of the canaries that are looked at."""
    return [
        attempt(
            CANARY_ATTACK,
            view,
            variant,
            scores=found,
            is_member=canaries.included[looked_at],
            half=half[looked_at],
        )
        for variant, found in scores.items()
    ]


def _planted(deal: Deal, canaries: Canaries) -> dict[str, Examples]:
    """The sites' rows, and among them the canaries whose coin said so."""
    found = {}
    for number, (site, rows) in enumerate(deal.train.items()):
        own = canaries.included & (canaries.owners == number)
        found[site] = Examples(
            features=np.concatenate([rows.features, canaries.examples.features[own]]),
            labels=np.concatenate([rows.labels, canaries.examples.labels[own]]),
        )
    return found


def _of_prior(own: Examples, public: Examples, seed: int) -> Examples:
    """Public rows in the numbers that a site has of each class: what an adversary with its prior expects.

    A class without public rows is left out.
    """
    generator = np.random.Generator(np.random.PCG64(seed + _CANARY_SEED))
    places = []
    for label, count in enumerate(np.bincount(own.labels)):
        there = np.flatnonzero(public.labels == label)
        if count and len(there):
            whole, rest = divmod(int(count), len(there))
            places += [*np.tile(there, whole), *generator.permutation(there)[:rest]]
    rows = np.array(places, np.int64)
    return Examples(features=public.features[rows], labels=public.labels[rows])


def _expected(silent: Rehearsal, found: Round, site: str, rows: Examples) -> NDArray[np.float64]:
    values, count = silent.contribution(silent.ticket(found.number), found.before, site, rows)
    return in_unit_of_sums(found.of, values, count)


def _silent(plan: Plan) -> Plan:
    """The plan with local noise of no size; shared noise is added later than a contribution."""
    return replace(plan, noise_multiplier=_SILENT) if plan.algorithm == LOCAL_PRIVACY else plan


def _standard(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores of one site on a scale that other sites' share."""
    deviation = float(scores.std())
    found: NDArray[np.float64] = (scores - scores.mean()) / (deviation or 1.0)
    return found
