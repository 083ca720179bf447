"""What updates tell of the classes that a site has: presence of each, and the whole distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.evaluation.attacks.advantage import Attempt, attempt, halves
from components.evaluation.attacks.label_inference import inferred_distribution, presence_scores
from components.evaluation.attacks.sighting import Sighting
from components.evaluation.method_measurement.experiment import Deal
from components.evaluation.method_measurement.views import AGGREGATOR, MODEL, PARTICIPANT, Views
from components.training.features import Examples

PRESENCE: Final = "class-presence"
ROUNDS: Final = 10
"""First rounds whose scores are added up: later ones tell less of classes and more of noise."""
_LEAST: Final = 2
"""Members and others that a half must have for an AUC to be more than one coin."""


@dataclass(frozen=True, kw_only=True)
class ClassesTold:
    """Attempts, and by view how far off the distribution is that is inferred of a site.

    The distance is total variation, in [0, 1], the mean over sites; `guess` is that of the population's own.
    """

    attempts: list[Attempt]
    label_error: dict[str, float]


def class_attempts(views: Views, deal: Deal, *, seed: int) -> ClassesTold:
    """Whether each site has each class, asked of each view.

    Sums are of several sites: their score for a class is the same for each of these. A participant is
    asked for classes that it has no rows of itself: what its own rows tell it is not what the sum does.
    """
    public, sites = deal.pooled_test, list(deal.train)
    counts = np.array([np.bincount(deal.train[site].labels, minlength=deal.classes) for site in sites])
    everywhere = np.ones(deal.classes, bool)
    together: dict[str, Any] = {"public": public, "seed": seed}
    attempts = [
        *_asked(
            AGGREGATOR, [views.updates.get(site, []) for site in sites], counts, asked=everywhere, **together
        ),
        *_asked(PARTICIPANT, [views.rest] * (len(sites) - 1), counts[1:], asked=counts[0] == 0, **together),
        *_asked(MODEL, [views.sums] * len(sites), counts, asked=everywhere, **together),
    ]
    truth = counts / counts.sum(axis=1, keepdims=True)
    population = counts.sum(axis=0) / counts.sum()
    errors = {"guess": _distance([population] * len(sites), truth)}
    if all(views.updates.get(site) for site in sites):
        told = [inferred_distribution(views.updates[site][0], public) for site in sites]
        errors[AGGREGATOR] = _distance(told, truth)
    errors[PARTICIPANT] = _distance(
        [inferred_distribution(views.rest[0], public)] * (len(sites) - 1), truth[1:]
    )
    errors[MODEL] = _distance([inferred_distribution(views.sums[0], public)] * len(sites), truth)
    return ClassesTold(attempts=attempts, label_error=errors)


def _asked(
    view: str,
    sightings: Sequence[Sequence[Sighting]],
    counts: NDArray[np.int64],
    *,
    asked: NDArray[np.bool_],
    public: Examples,
    seed: int,
) -> list[Attempt]:
    """One attempt a variant, of all sites and of the classes asked for; none where there is too little."""
    present = (counts[:, asked] > 0).ravel()
    half = halves(len(present), seed)
    enough = all(min((present & part).sum(), (~present & part).sum()) >= _LEAST for part in (half, ~half))
    if not enough or not all(sightings):
        return []
    found: dict[str, list[NDArray[np.float64]]] = {}
    for seen in sightings:
        for variant, scores in _variants(seen, public).items():
            found.setdefault(variant, []).append(_standard(scores)[asked])
    return [
        attempt(PRESENCE, view, variant, scores=np.concatenate(scores), is_member=present, half=half)
        for variant, scores in found.items()
    ]


def _variants(seen: Sequence[Sighting], public: Examples) -> dict[str, NDArray[np.float64]]:
    """Scores of the first round, and of the first rounds together, by class."""
    by_round = [presence_scores(each, public) for each in seen[:ROUNDS]]
    found = {f"{variant}, first round": scores for variant, scores in by_round[0].items()}
    for variant in by_round[-1]:
        each = [_standard(scores[variant]) for scores in by_round if variant in scores]
        found[f"{variant}, first rounds together"] = np.sum(each, axis=0)
    return found


def _standard(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    deviation = float(scores.std())
    found: NDArray[np.float64] = (scores - scores.mean()) / (deviation or 1.0)
    return found


def _distance(told: Sequence[NDArray[np.float64]], truth: NDArray[np.float64]) -> float:
    """Mean total variation distance."""
    return float(np.mean([np.abs(one - other).sum() / 2 for one, other in zip(told, truth, strict=True)]))
