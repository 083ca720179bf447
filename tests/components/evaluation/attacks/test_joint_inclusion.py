"""The joint estimate against the dense formula, and what it gains over inner products in a crowd."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.released_sum import GRADIENTS, WEIGHTED_UPDATES
from components.errors import UsageError
from components.evaluation.attacks import joint_inclusion
from components.evaluation.attacks.advantage import auc
from components.evaluation.attacks.canaries import Sighting, drawn_canaries, trajectory_scores
from components.evaluation.attacks.sighting import parts_sum, row_errors
from components.training.features import Examples
from components.training.local_training.clipped_gradients import clipped_gradient_sum
from tests.components.evaluation.attacks.population import (
    blank,
    joined,
    rows,
    taken,
    updated,
    zeros,
)

Float = NDArray[np.float64]
CLASSES, FEATURES = 6, 96


def crowded(seed: int, deviation: float) -> tuple[list[Sighting], Examples, NDArray[np.bool_], Examples]:
    """One sum of clipped gradients over 600 real rows and some 180 of 360 canaries."""
    generator = np.random.default_rng(seed)
    drawn = drawn_canaries(360, sites=1, features=FEATURES, classes=CLASSES, generator=generator)
    own = rows(600, classes=CLASSES, features=FEATURES, seed=seed)
    public = rows(600, classes=CLASSES, features=FEATURES, seed=seed + 100, labels=own.labels)
    model = blank(CLASSES, FEATURES)
    everything = joined(own, taken(drawn.examples, drawn.included))
    seen, background = (
        clipped_gradient_sum(model, each, max_grad_norm=1.0, device="cpu") for each in (everything, public)
    )
    seen = seen + deviation * generator.normal(size=seen.size)
    sighting = Sighting(
        of=GRADIENTS,
        model=model,
        seen=seen,
        background=background,
        deviation=deviation,
        clipping_norm=1.0,
    )
    return [sighting], drawn.examples, drawn.included, public


def test_the_estimate_is_the_dense_formula() -> None:
    generator = np.random.default_rng(3)
    features, deviations = 12, (0.7, 1.9)
    drawn = drawn_canaries(9, sites=1, features=features, classes=1, generator=generator)
    # Two outputs, all rows of the first: one block, so that nothing is left out but the bias.
    model = {
        "output.bias": np.array([0.3, -0.2], np.float32),
        "output.weight": (0.1 * generator.normal(size=(2, features))).astype(np.float32),
    }
    sightings, system, right = [], 4 * np.eye(9), np.zeros(9)
    for deviation in deviations:
        seen = deviation * generator.normal(size=2 * features + 2)
        sighting = Sighting(
            of=GRADIENTS,
            model=model,
            seen=seen,
            background=np.zeros_like(seen),
            deviation=deviation,
            clipping_norm=1.0,
        )
        sightings.append(sighting)
        errors = row_errors(sighting, drawn.examples).astype(np.float64)
        parts = np.stack(
            [np.outer(error, row).ravel() for error, row in zip(errors, drawn.examples.features, strict=True)]
        )
        system += parts @ parts.T / deviation**2
        right += parts @ (seen[2:] - parts.sum(axis=0) / 2) / deviation**2
    found = trajectory_scores(sightings, drawn.examples)["jointly, noise known"]
    # Parts are multiplied in float32.
    np.testing.assert_allclose(found, np.linalg.solve(system, right), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("deviation", [0.0, 0.3])
def test_in_a_crowd_the_joint_estimate_beats_inner_products(deviation: float) -> None:
    sightings, examples, included, public = crowded(1, deviation)
    scores = trajectory_scores(sightings, examples, public)
    found = {name: auc(values[included], values[~included]) for name, values in scores.items()}
    alone = found["rounds by their noise"]
    # An AUC of 360 rows has a deviation of 0.03 at a half and less above.
    assert found["jointly"] > alone
    whitened = max(value for name, value in found.items() if "whitened" in name)
    assert whitened > alone + 0.1
    assert ("jointly, whitened, noise known" in found) == (deviation > 0)
    if deviation:
        assert found["jointly, whitened, noise known"] > alone + 0.05


def test_large_classes_are_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sightings, examples, included, public = crowded(2, 0.0)
    monkeypatch.setattr(joint_inclusion, "LARGEST_BLOCK", 16)
    scores = trajectory_scores(sightings, examples, public)["jointly, whitened 10"]
    assert auc(scores[included], scores[~included]) > 0.75


def test_an_update_counts_alike_in_any_units() -> None:
    generator = np.random.default_rng(5)
    drawn = drawn_canaries(60, sites=1, features=FEATURES, classes=CLASSES, generator=generator)
    model = blank(CLASSES, FEATURES)
    seen = updated(model, taken(drawn.examples, drawn.included))
    public = rows(60, classes=CLASSES, features=FEATURES, seed=6)
    found = [
        trajectory_scores(
            [Sighting(of=WEIGHTED_UPDATES, model=model, seen=scale * seen, background=zeros(model))],
            drawn.examples,
            public,
        )
        for scale in (1.0, 64.0)
    ]
    for name, scores in found[0].items():
        # A power of two changes no digit but where a tiny constant keeps a division finite.
        np.testing.assert_allclose(64 * scores, found[1][name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_public_rows_without_two_of_a_class_are_refused() -> None:
    sightings, examples, _, _ = crowded(3, 0.0)
    lonely = rows(CLASSES, classes=CLASSES, features=FEATURES, seed=1, labels=range(CLASSES))
    with pytest.raises(UsageError, match="two of one class"):
        trajectory_scores(sightings, examples, lonely)


def test_parts_of_canaries_alone_are_read_off() -> None:
    generator = np.random.default_rng(7)
    drawn = drawn_canaries(240, sites=1, features=FEATURES, classes=CLASSES, generator=generator)
    model = blank(CLASSES, FEATURES)
    blind = Sighting(of=GRADIENTS, model=model, seen=zeros(model), background=zeros(model), clipping_norm=1.0)
    included = taken(drawn.examples, drawn.included)
    seen = parts_sum(blind, row_errors(blind, included), included)
    sighting = Sighting(of=GRADIENTS, model=model, seen=seen, background=zeros(model), clipping_norm=1.0)
    scores = trajectory_scores([sighting], drawn.examples)["jointly"]
    # Forty rows in 96 directions are apart, but for the ridge that stands for what is not known.
    assert auc(scores[drawn.included], scores[~drawn.included]) > 0.999
