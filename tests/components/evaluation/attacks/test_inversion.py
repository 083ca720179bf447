"""Embeddings read off small batches: exact where theory says so, at chance on rows that were not there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.released_sum import CLASS_SUMS, GRADIENTS, WEIGHTED_UPDATES
from components.errors import UsageError
from components.evaluation.attacks.advantage import auc, chance_interval
from components.evaluation.attacks.canaries import Sighting
from components.evaluation.attacks.inversion import candidate_scores, inverted
from components.training.features import Examples
from components.training.heads import Head
from components.training.local_training.class_sums import class_sums
from components.training.local_training.clipped_gradients import clipped_gradient_sum
from tests.components.evaluation.attacks.population import blank, joined, moved, rows, taken, updated, zeros

Float = NDArray[np.float64]
CLASSES, FEATURES = 10, 64
CONFIDENCE = 0.999
"""Of the interval of chance; seeds are fixed."""


def trained() -> Head:
    model = blank(CLASSES, FEATURES)
    return moved(model, updated(model, rows(200, classes=CLASSES, features=FEATURES, seed=77)))


def gradients(model: Head, batch: Examples, max_grad_norm: float = 1.0) -> Sighting:
    seen = clipped_gradient_sum(model, batch, max_grad_norm=max_grad_norm, device="cpu")
    return Sighting(
        of=GRADIENTS, model=model, seen=seen, background=zeros(model), clipping_norm=max_grad_norm
    )


@pytest.mark.parametrize("fresh", [True, False])
def test_one_example_is_its_row_over_its_bias(fresh: bool) -> None:
    """Phong et al. 2018: exact in value, at any model, for every class with a gradient."""
    model = blank(CLASSES, FEATURES) if fresh else trained()
    one = rows(1, classes=CLASSES, features=FEATURES, seed=1, labels=[4])
    found = inverted(gradients(model, one))["bias ratio"]
    for label in range(CLASSES):
        # What is seen is read in float32.
        np.testing.assert_allclose(found[label], one.features[0], atol=1e-3)


def test_a_batch_with_one_row_a_class_is_solved_exactly() -> None:
    """Of ten classes four are there, so that the median row is one of the others'."""
    batch = rows(4, classes=CLASSES, features=FEATURES, seed=2, labels=[0, 2, 5, 8])
    for max_grad_norm in (1.0, 1e6):
        found = inverted(gradients(blank(CLASSES, FEATURES), batch, max_grad_norm))
        assert candidate_scores(found["fixed point"], batch).min() > 0.9999
        assert candidate_scores(found["less the common row"], batch).min() > 0.9999
        assert candidate_scores(found["rows"], batch).min() < 0.9999
    later = inverted(gradients(trained(), batch))
    assert candidate_scores(later["fixed point"], batch).min() > 0.99


def test_class_sums_of_single_rows_are_the_rows() -> None:
    batch = rows(4, classes=CLASSES, features=FEATURES, seed=3, labels=[1, 2, 6, 9])
    model = blank(CLASSES, FEATURES)
    sums = class_sums(batch, classes=CLASSES, clipping_norm=math.sqrt(FEATURES))
    found = inverted(Sighting(of=CLASS_SUMS, model=model, seen=sums, background=np.zeros_like(sums)))
    assert list(found) == ["rows"]
    np.testing.assert_allclose(found["rows"][batch.labels], batch.features, atol=1e-5)


def test_an_update_of_several_steps_gives_its_batch_away_among_candidates_and_no_other() -> None:
    """Members against other rows of the same classes; then rows that were nowhere, split by a coin."""
    members: dict[str, list[Float]] = {}
    others: dict[str, list[Float]] = {}
    fresh: dict[str, list[Float]] = {}
    generator = np.random.default_rng(5)
    for seed in range(25):
        labels = generator.choice(CLASSES, 6)
        batch, same, absent = (
            rows(6, classes=CLASSES, features=FEATURES, seed=100 * seed + number, labels=labels)
            for number in range(3)
        )
        model = blank(CLASSES, FEATURES)
        seen = updated(model, batch, epochs=3, seed=seed)
        sighting = Sighting(of=WEIGHTED_UPDATES, model=model, seen=seen, background=zeros(model))
        for name, embeddings in inverted(sighting).items():
            scores = candidate_scores(embeddings, joined(batch, same))
            members.setdefault(name, []).append(scores[:6])
            others.setdefault(name, []).append(scores[6:])
            fresh.setdefault(name, []).append(candidate_scores(embeddings, absent))
    coin = generator.random(25 * 6) < 0.5
    low, high = chance_interval(int(coin.sum()), int((~coin).sum()), CONFIDENCE)
    for name, scores_of_members in members.items():
        found = auc(np.concatenate(scores_of_members), np.concatenate(others[name]))
        assert found > (0.8 if name == "bias ratio" else 0.9), name
        values = np.concatenate(fresh[name])
        assert low < auc(values[coin], values[~coin]) < high, name


def test_a_vector_of_words_tells_no_row() -> None:
    generator = np.random.default_rng(6)
    model = blank(CLASSES, FEATURES)
    candidates = rows(400, classes=CLASSES, features=FEATURES, seed=8)
    is_member = generator.random(400) < 0.5
    seen = generator.normal(size=zeros(model).size)
    found = inverted(Sighting(of=WEIGHTED_UPDATES, model=model, seen=seen, background=zeros(model)))
    low, high = chance_interval(int(is_member.sum()), int((~is_member).sum()), CONFIDENCE)
    for name, embeddings in found.items():
        scores = candidate_scores(embeddings, candidates)
        assert low < auc(scores[is_member], scores[~is_member]) < high, name


def test_nothing_seen_gives_nothing() -> None:
    model = blank(CLASSES, FEATURES)
    found = inverted(Sighting(of=GRADIENTS, model=model, seen=zeros(model), background=zeros(model)))
    candidates = rows(5, classes=CLASSES, features=FEATURES, seed=9)
    for name, embeddings in found.items():
        assert not embeddings.any(), name
        assert candidate_scores(embeddings, candidates).tolist() == [0] * 5


def test_candidates_that_do_not_fit_are_refused() -> None:
    embeddings = np.zeros((CLASSES, FEATURES))
    one = rows(1, classes=CLASSES, features=FEATURES, seed=1)
    for wrong in (
        rows(3, classes=CLASSES, features=8, seed=1),
        Examples(features=one.features, labels=np.array([CLASSES])),
        Examples(features=one.features, labels=np.array([-1])),
    ):
        with pytest.raises(UsageError, match="candidates must have"):
            candidate_scores(embeddings, wrong)
    assert candidate_scores(embeddings, taken(one, one.labels < 0)).shape == (0,)
