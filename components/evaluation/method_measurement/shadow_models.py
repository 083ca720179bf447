"""Likelihood-ratio membership inference on the released model, with shadow models of the same method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.agreement.methods import COMPARED
from components.evaluation.attacks.advantage import attempt, halves
from components.evaluation.attacks.canaries import scaled_confidence
from components.evaluation.attacks.likelihood_ratio import offline_scores
from components.evaluation.method_measurement.configurations import AVERAGING, PRIVATE, Configuration
from components.evaluation.method_measurement.experiment import Deal, converging, deal_of
from components.evaluation.method_measurement.views import MODEL
from components.evaluation.rehearsal.corpus import Corpus
from components.evaluation.rehearsal.dealing import dealt, taken
from components.evaluation.rehearsal.plans import Plan, site_names
from components.training.features import Examples

LIKELIHOOD: Final = "likelihood-ratio"
_SHADOW_SEED, _HALF_SEED = 7000, 8000


def likelihood_ratio(configuration: Configuration, corpus: Corpus, *, plan: Plan) -> dict[str, Any]:
    """Which half of the training rows a model was trained on, for a model a seed.

    Targets and shadows are trained alike, each on a random half of all rows, dealt among the same sites. A
    model of federated averaging is the same under every protection up to how a sum is written (to 2e-5 of a
    weight in the tests of `rehearsal`), so one stands for all.
    """
    method = configuration["method"]
    plan = replace(plan, method=method)
    shadows = [
        _trained(configuration, corpus, plan, _SHADOW_SEED + each) for each in range(configuration["shadows"])
    ]
    confidences = np.array([found for _, found in shadows])
    included = np.array([inside for inside, _ in shadows])
    usable = ~included.all(axis=0)
    found = {}
    for seed in configuration["seeds"]:
        inside, confidence = _trained(configuration, corpus, plan, seed)
        scores = offline_scores(confidence[usable], confidences[:, usable], included[:, usable])
        made = attempt(
            LIKELIHOOD,
            MODEL,
            "offline",
            scores=scores,
            is_member=inside[usable],
            half=halves(int(usable.sum()), seed + _HALF_SEED),
        )
        found[str(seed)] = [made.to_dict()]
    averaging = [each for each in COMPARED if each not in PRIVATE]
    return {
        "by_seed": found,
        "stands_for": averaging if method == AVERAGING else [method],
        "shadows": configuration["shadows"],
    }


def _trained(
    configuration: Configuration, corpus: Corpus, plan: Plan, seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which rows were in, and the model's confidence in every row's own class."""
    inside = np.random.Generator(np.random.PCG64(seed)).random(len(corpus.train.labels)) < 0.5
    deal = _deal(configuration, corpus, inside)
    rehearsal = deal.rehearsal(plan, seed=seed)
    model = rehearsal.genesis
    for found in converging(rehearsal):
        model = found.after
    return inside, scaled_confidence(model, corpus.train)


def _deal(configuration: Configuration, corpus: Corpus, inside: NDArray[np.bool_]) -> Deal:
    """The same hands for every model, less the rows that are out: everybody knows who has which classes."""
    sites = configuration["sites"]
    hands = dealt(
        corpus.train.labels,
        corpus.test.labels,
        sites=sites,
        concentration=configuration["concentration"],
        seed=1,
    )
    kept: dict[str, Examples] = {
        name: taken(corpus.train, own[inside[own]])
        for name, (own, _) in zip(site_names(sites), hands, strict=True)
    }
    return replace(
        deal_of(corpus, sites=sites, concentration=configuration["concentration"], seed=1), train=kept
    )
