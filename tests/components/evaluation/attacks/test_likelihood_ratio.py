"""The offline likelihood ratio: closed form, success on overfit models, chance on rows nobody trained on."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from components.errors import UsageError
from components.evaluation.attacks.advantage import auc, chance_interval
from components.evaluation.attacks.canaries import drawn_canaries, scaled_confidence
from components.evaluation.attacks.likelihood_ratio import POOLED_BELOW, offline_scores
from components.training.features import Examples
from components.training.heads import Head
from tests.components.evaluation.attacks.population import blank, moved, taken, updated

Float = NDArray[np.float64]
CLASSES, FEATURES, SHADOWS = 5, 64, 16
CONFIDENCE = 0.999
"""Of the interval of chance; seeds are fixed."""


def simulated(
    count: int, shadows: int, spread: Float, shift: float, seed: int
) -> tuple[Float, NDArray[np.bool_], NDArray[np.bool_], Float]:
    """Normal confidences about a hard or easy middle of each row, moved by `shift` spreads by membership."""
    generator = np.random.default_rng(seed)
    middle = generator.normal(0, 20, count)
    included = generator.random((shadows + 1, count)) < 0.5
    found = middle + spread * (generator.normal(size=included.shape) + shift * included)
    return found[1:], included[1:], included[0], found[0]


def test_scores_of_normal_confidences_reach_the_closed_form() -> None:
    count, shift = 20_000, 1.5
    shadows, included, is_member, target = simulated(count, 60, np.ones(count), shift, seed=1)
    scores = offline_scores(target, shadows, included)
    # The mean of about 30 shadows without the row adds 1/30 to the variance of the target's confidence.
    expected = NormalDist().cdf(shift / math.sqrt(2 * (1 + 1 / 29.5)))
    found = auc(scores[is_member], scores[~is_member])
    assert abs(found - expected) < 5 * math.sqrt(0.25 / (count / 2))
    # Confidence alone sees how hard a row is before it sees whether it was a member.
    assert auc(target[is_member], target[~is_member]) < 0.55


def test_few_shadows_pool_the_variance_and_many_have_one_a_row() -> None:
    count = 3000
    spread = np.where(np.arange(count) % 2, 10.0, 0.1)
    for shadows, of_each in ((24, False), (4 * POOLED_BELOW, True)):
        found, included, is_member, target = simulated(count, shadows, spread, 0.0, seed=2)
        others = ~is_member
        scores = offline_scores(target, found, included)
        ratio = scores[others & (spread > 1)].std() / scores[others & (spread < 1)].std()
        # 100 where one variance serves all rows; 1 where each has its own.
        assert (ratio == pytest.approx(1, abs=0.15)) if of_each else ratio > 30


def trained(examples: Examples, which: NDArray[np.bool_], seed: int) -> Head:
    model = blank(CLASSES, FEATURES)
    return moved(model, updated(model, taken(examples, which), epochs=20, seed=seed))


@pytest.fixture(scope="module")
def models() -> tuple[Head, list[Head], NDArray[np.bool_], Examples]:
    """A model and 16 shadows, each of which knows its half of 160 rows with random labels by heart."""
    generator = np.random.default_rng(3)
    examples = drawn_canaries(160, sites=1, features=FEATURES, classes=CLASSES, generator=generator).examples
    included = generator.random((SHADOWS + 1, 160)) < 0.5
    found = [trained(examples, which, seed) for seed, which in enumerate(included)]
    return found[0], found[1:], included, examples


def test_an_overfit_model_gives_its_rows_away(
    models: tuple[Head, list[Head], NDArray[np.bool_], Examples],
) -> None:
    target, shadows, included, examples = models
    confidence = scaled_confidence(target, examples)
    outside = ~included[1:].all(axis=0)
    scores = offline_scores(
        confidence[outside],
        np.stack([scaled_confidence(shadow, examples) for shadow in shadows])[:, outside],
        included[1:, outside],
    )
    is_member = included[0, outside]
    found = auc(scores[is_member], scores[~is_member])
    assert found > 0.9
    assert found > auc(confidence[included[0]], confidence[~included[0]])


def test_rows_that_no_model_was_trained_on_are_at_chance(
    models: tuple[Head, list[Head], NDArray[np.bool_], Examples],
) -> None:
    target, shadows, _, _ = models
    fresh = drawn_canaries(
        500, sites=1, features=FEATURES, classes=CLASSES, generator=np.random.default_rng(5)
    )
    scores = offline_scores(
        scaled_confidence(target, fresh.examples),
        np.stack([scaled_confidence(shadow, fresh.examples) for shadow in shadows]),
        np.zeros((SHADOWS, 500), bool),
    )
    members = int(fresh.included.sum())
    low, high = chance_interval(members, 500 - members, CONFIDENCE)
    assert low < auc(scores[fresh.included], scores[~fresh.included]) < high


def test_what_no_shadow_can_tell_is_refused() -> None:
    target, shadows = np.zeros(3), np.zeros((4, 3))
    included = np.zeros((4, 3), bool)
    included[:, 1] = True
    with pytest.raises(UsageError, match="1 rows were in every shadow"):
        offline_scores(target, shadows, included)
    with pytest.raises(UsageError, match="no variance"):
        offline_scores(target, shadows[:1], np.zeros((1, 3), bool))
    for wrong in (np.zeros((4, 2)), np.zeros((0, 3)), np.zeros(3)):
        with pytest.raises(UsageError, match="shadows must be"):
            offline_scores(target, wrong, np.zeros(wrong.shape, bool))
