"""Classes and their shares read off one site's vector; nothing where the vector says nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.released_sum import CLASS_SUMS, GRADIENTS, WEIGHTED_UPDATES
from components.errors import UsageError
from components.evaluation.attacks.advantage import auc, chance_interval
from components.evaluation.attacks.canaries import Sighting
from components.evaluation.attacks.label_inference import inferred_distribution, presence_scores
from components.training.features import Examples
from components.training.heads import initial
from components.training.local_training.class_sums import class_sums
from components.training.local_training.clipped_gradients import clipped_gradient_sum
from tests.components.evaluation.attacks.population import blank, moved, rows, taken, updated, zeros

Float = NDArray[np.float64]
CLASSES, FEATURES, SITES = 12, 48, 6
CONFIDENCE = 0.999
"""Of the interval of chance; seeds are fixed."""
PUBLIC = rows(600, classes=CLASSES, features=FEATURES, seed=500)


def site(seed: int) -> tuple[Examples, Float]:
    """Rows of some of the classes, and the share of each."""
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet([0.3] * CLASSES) * (generator.random(CLASSES) < 0.6)
    shares[seed % CLASSES] += 0.2
    labels = generator.choice(CLASSES, 200, p=shares / shares.sum())
    examples = rows(200, classes=CLASSES, features=FEATURES, seed=seed + 50, labels=labels)
    return examples, np.bincount(labels, minlength=CLASSES) / 200


def sighting(of: str, examples: Examples, deviation: float = 0.0, seed: int = 0) -> Sighting:
    model = blank(CLASSES, FEATURES)
    if of == CLASS_SUMS:
        seen = class_sums(examples, classes=CLASSES, clipping_norm=math.sqrt(FEATURES))
    elif of == GRADIENTS:
        seen = clipped_gradient_sum(model, examples, max_grad_norm=1.0, device="cpu")
    else:
        seen = updated(model, examples)
    seen = seen + deviation * np.random.default_rng(seed).normal(size=seen.size)
    norm = 1.0 if of == GRADIENTS else None
    return Sighting(
        of=of,
        model=model,
        seen=seen,
        background=zeros(model, of),
        deviation=deviation,
        clipping_norm=norm,
    )


def distance(first: Float, second: Float) -> float:
    """Total variation."""
    return float(np.abs(first - second).sum() / 2)


def pooled(of: str, deviation: float = 0.0) -> tuple[dict[str, Float], NDArray[np.bool_]]:
    """Scores of all sites' classes, by variant, and whether each is there."""
    scores: dict[str, list[Float]] = {}
    present = []
    for seed in range(SITES):
        examples, shares = site(seed)
        for name, values in presence_scores(sighting(of, examples, deviation, seed), PUBLIC).items():
            scores.setdefault(name, []).append(values)
        present.append(shares > 0)
    return {name: np.concatenate(values) for name, values in scores.items()}, np.concatenate(present)


@pytest.mark.parametrize("of", [CLASS_SUMS, GRADIENTS, WEIGHTED_UPDATES])
def test_a_plaintext_vector_tells_the_classes(of: str) -> None:
    scores, present = pooled(of)
    found = {name: auc(values[present], values[~present]) for name, values in scores.items()}
    assert found["regression"] > 0.95
    assert min(found.values()) > 0.85
    assert ("bias" in found) == (of != CLASS_SUMS)


@pytest.mark.parametrize(("of", "error"), [(CLASS_SUMS, 0.05), (GRADIENTS, 0.05), (WEIGHTED_UPDATES, 0.3)])
def test_a_plaintext_vector_tells_the_shares(of: str, error: float) -> None:
    population = np.bincount(PUBLIC.labels, minlength=CLASSES) / len(PUBLIC.labels)
    for seed in range(SITES):
        examples, shares = site(seed)
        found = inferred_distribution(sighting(of, examples), PUBLIC)
        assert found.sum() == pytest.approx(1)
        assert found.min() >= 0
        assert distance(found, shares) < error
        assert distance(found, shares) < distance(population, shares) / 2


def test_halfway_through_an_update_the_shares_are_nearer() -> None:
    start, halfway = [], []
    for seed in range(SITES):
        examples, shares = site(seed)
        seen = sighting(WEIGHTED_UPDATES, examples)
        known = replace(seen, after=moved(seen.model, seen.seen))
        start.append(distance(inferred_distribution(seen, PUBLIC), shares))
        halfway.append(distance(inferred_distribution(known, PUBLIC), shares))
        assert "regression, halfway" in presence_scores(known, PUBLIC)
        assert "regression, halfway" not in presence_scores(replace(known, deviation=1.0), PUBLIC)
    assert np.mean(halfway) < np.mean(start)


def test_more_noise_tells_less_until_the_answer_is_the_population() -> None:
    population = np.bincount(PUBLIC.labels, minlength=CLASSES) / len(PUBLIC.labels)
    errors = []
    for deviation in (0.0, 3.0, 1e4):
        found = [
            distance(
                inferred_distribution(sighting(GRADIENTS, site(seed)[0], deviation, seed), PUBLIC),
                site(seed)[1],
            )
            for seed in range(SITES)
        ]
        errors.append(float(np.mean(found)))
    guess = float(np.mean([distance(population, site(seed)[1]) for seed in range(SITES)]))
    assert errors[0] < errors[1] < errors[2]
    assert errors[2] == pytest.approx(guess, rel=0.1)


def test_a_vector_of_words_tells_neither_classes_nor_shares() -> None:
    generator = np.random.default_rng(7)
    model = blank(CLASSES, FEATURES)
    population = np.bincount(PUBLIC.labels, minlength=CLASSES) / len(PUBLIC.labels)
    scores: dict[str, list[Float]] = {}
    guessed = 0
    for _ in range(40):
        seen = generator.normal(size=zeros(model).size)
        blind = Sighting(of=WEIGHTED_UPDATES, model=model, seen=seen, background=zeros(model))
        for name, values in presence_scores(blind, PUBLIC).items():
            scores.setdefault(name, []).append(values)
        guessed += np.allclose(inferred_distribution(blind, PUBLIC), population)
    present = generator.random(40 * CLASSES) < 0.5
    low, high = chance_interval(int(present.sum()), int((~present).sum()), CONFIDENCE)
    for name, parts in scores.items():
        values = np.concatenate(parts)
        assert low < auc(values[present], values[~present]) < high, name
    assert guessed > 20


def test_classes_that_were_never_public_are_judged_by_the_mean_row() -> None:
    examples, shares = site(2)
    known = taken(PUBLIC, PUBLIC.labels != int(shares.argmax()))
    scores = presence_scores(sighting(GRADIENTS, examples), known)
    assert all(np.isfinite(values).all() and values.shape == (CLASSES,) for values in scores.values())
    assert inferred_distribution(sighting(GRADIENTS, examples), known).sum() == pytest.approx(1)


def test_what_cannot_be_read_is_refused() -> None:
    seen = sighting(GRADIENTS, site(1)[0])
    with pytest.raises(UsageError, match="needs public rows"):
        presence_scores(seen, taken(PUBLIC, PUBLIC.labels < 0))
    with pytest.raises(UsageError, match="rows must have"):
        inferred_distribution(seen, rows(9, classes=CLASSES, features=7, seed=1))
    with pytest.raises(UsageError, match="linear heads"):
        replace(seen, model=initial(FEATURES, 4, CLASSES, 0))
