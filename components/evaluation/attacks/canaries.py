"""White-box membership inference with canaries, on all that a party sees of a training.

Nasr, Shokri and Houmansadr 2019, "Comprehensive Privacy Analysis of Deep Learning", IEEE S&P:
who sees updates compares them with a row's own gradient. Steinke, Nasr and Jagielski 2023, "Privacy Auditing
with One (1) Training Run", NeurIPS, Algorithm 1: many canaries at once, each included by its own fair coin,
make one training enough. Their part in a sum is what differential privacy bounds: the score's advantage is
at most the trade-off of the mechanism, and reaches it where the canaries are alone with the noise (Dong, Roth
and Su 2022, "Gaussian Differential Privacy", JRSS B: AUC = Φ(μ/√2) under μ-GDP).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.agreement.released_sum import CLASS_SUMS, GRADIENTS, WEIGHTED_UPDATES
from components.errors import UsageError
from components.evaluation.attacks.joint_inclusion import JointInclusion
from components.evaluation.attacks.sighting import (
    Float,
    Sighting,
    part_norms,
    require_rows,
    row_errors,
)
from components.training.features import Examples
from components.training.heads import Head, logits

__all__ = [
    "Canaries",
    "Sighting",
    "drawn_canaries",
    "model_scores",
    "released_steps",
    "scaled_confidence",
    "trajectory_scores",
]

_TINY = 1e-20


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """Rows that belong to nobody.

    Attributes:
        examples: features and labels, n.
        included: (n,), whether a canary is in its site's training rows.
        owners: (n,), number of the site that includes it, from 0.
    """

    examples: Examples
    included: NDArray[np.bool_]
    owners: NDArray[np.int64]


def drawn_canaries(
    count: int, *, sites: int, features: int, classes: int, generator: np.random.Generator
) -> Canaries:
    """Rows in random directions of norm √features, with random labels, owners and fair coins.

    Directions say nothing about the label, so whatever a model knows of a canary it knows of having seen it.

    Raises:
        UsageError: there is nothing to draw.
    """
    if min(count, sites, features, classes) < 1:
        raise UsageError(
            "canaries need a count, sites, features and classes from 1, "
            f"got {count}, {sites}, {features} and {classes}"
        )
    rows = generator.standard_normal((count, features))
    rows *= np.sqrt(features) / np.linalg.norm(rows, axis=1, keepdims=True)
    return Canaries(
        examples=Examples(
            features=rows.astype(np.float32), labels=generator.integers(0, classes, count, dtype=np.int64)
        ),
        included=generator.random(count) < 0.5,
        owners=generator.integers(0, sites, count, dtype=np.int64),
    )


def trajectory_scores(
    sightings: Sequence[Sighting], examples: Examples, public: Examples | None = None
) -> dict[str, Float]:
    """How much of each row's own part is in what was seen, by variant.

    `rounds by their noise`, `all rounds alike`, `first round` and `last half of rounds` add up inner
    products of a row's unit part with what was seen less the background; the first of them by the part's
    norm over the variance of the noise, the most powerful test of one row against noise (Neyman and
    Pearson). `jointly …` estimate all rows' inclusion together, see `joint_inclusion`: `noise known` takes
    the deviations at their word, `whitened` leaves out where public rows vary within their classes.

    Args:
        sightings: of the rounds that the adversary has seen, from 1. Rounds without noise, if there are any,
            weigh so much more than others that these are left out where rounds are weighed by their noise.
        examples: all rows that may be in the sums, half of them in fact: an aggregator that sees one site
            asks of that site's canaries.
        public: rows of the population, such as those the background is made of; None leaves `whitened` out.

    Returns:
        Scores (n,) by variant, higher where a row was rather included.

    Raises:
        UsageError: there are no sightings or rows, or rows do not fit the heads.
    """
    if not sightings or not len(examples.labels):
        raise UsageError("an attack on a trajectory needs at least one round and one row")
    if public is not None:
        require_rows(sightings[0], public)
    deviations = np.array([sighting.deviation for sighting in sightings])
    noisy = bool((deviations > 0).all())
    weights = deviations**-2.0 if noisy else (deviations == 0).astype(np.float64)
    joint = JointInclusion(examples, len(sightings[0].model["output.bias"]))
    unit_scores, norms = [], []
    for sighting, weight in zip(sightings, weights, strict=True):
        errors = row_errors(sighting, examples)
        lengths = np.maximum(part_norms(sighting, errors, examples).astype(np.float64), _TINY)
        products = np.einsum("ij,ij->i", errors, examples.features @ sighting.weights.T + sighting.bias)
        unit_scores.append(products / lengths)
        norms.append(np.sqrt(np.mean(lengths**2)))
        if weight:
            joint.add(sighting, errors, float(weight), known_scale=_known_scale(sighting))
    scores = np.stack(unit_scores)
    parts = np.array(norms)
    return {
        "rounds by their noise": (weights * parts) @ scores,
        "all rounds alike": (1 / parts) @ scores,
        "first round": scores[0],
        "last half of rounds": (1 / parts[len(parts) // 2 :]) @ scores[len(parts) // 2 :],
    } | joint.scores(public, known_noise=noisy)


def released_steps(models: Sequence[Head], backgrounds: Sequence[Float] | None = None) -> list[Sighting]:
    """What released models alone tell of each round: the step from one to the next.

    To first order a step is a sum of the rows' negative gradients at the model before it, whatever the
    optimiser; two models are enough, and the second may be the last.

    Args:
        models: linear heads in the order of their release, from 2.
        backgrounds: what rows of the known class prior would have moved the models by, (d,) each; None for 0.

    Raises:
        UsageError: a head is not linear, or there are fewer than two.
    """
    if len(models) < 2:
        raise UsageError(f"a step leads from one model to another, got {len(models)}")
    steps = []
    for number, (before, after) in enumerate(itertools.pairwise(models)):
        moved = [after[name].astype(np.float64) - before[name] for name in sorted(before)]
        seen = np.concatenate([values.ravel() for values in moved])
        background = np.zeros_like(seen) if backgrounds is None else backgrounds[number]
        steps.append(Sighting(of=WEIGHTED_UPDATES, model=before, seen=seen, background=background))
    return steps


def model_scores(model: Mapping[str, NDArray[np.float32]], examples: Examples) -> dict[str, Float]:
    """Scores of rows on one released model alone, by variant, (n,) each; for heads of any kind.

    `loss`: ln p of the true class (Yeom et al. 2018, "Privacy Risk in Machine Learning", IEEE CSF,
    Adversary 2). `confidence`: `scaled_confidence`. `margin`: true logit less the largest other (Carlini
    et al. 2022). `confidence in its class`: less the mean of all rows asked about with that
    label, which takes off how hard a class is (Watson et al. 2022, "On the Importance of Difficulty
    Calibration in Membership Inference Attacks", ICLR).
    """
    confidence, margin = _confidences(model, examples)
    calibrated = confidence.copy()
    for label in np.unique(examples.labels):
        rows = examples.labels == label
        calibrated[rows] -= confidence[rows].mean()
    return {
        "loss": -np.logaddexp(0, -confidence),
        "confidence": confidence,
        "margin": margin,
        "confidence in its class": calibrated,
    }


def scaled_confidence(model: Mapping[str, NDArray[np.float32]], examples: Examples) -> Float:
    """φ = ln(p / (1 − p)) of the true class, (n,): Carlini et al. 2022, Algorithm 1; p is never rounded."""
    return _confidences(model, examples)[0]


def _confidences(model: Mapping[str, NDArray[np.float32]], examples: Examples) -> tuple[Float, Float]:
    scores = logits(model, examples.features).astype(np.float64)
    rows = np.arange(len(scores))
    true = scores[rows, examples.labels].copy()
    scores[rows, examples.labels] = -np.inf
    largest = scores.max(axis=1)
    others = largest + np.log(np.exp(scores - largest[:, None]).sum(axis=1))
    return true - others, true - largest


def _known_scale(sighting: Sighting) -> bool:
    """Whether a row's part is known in units of what was seen, and not only its direction."""
    return sighting.of == CLASS_SUMS or (sighting.of == GRADIENTS and sighting.clipping_norm is not None)
