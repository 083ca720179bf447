"""Canaries: the closed form against noise, success on what was trained, chance on what was not."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.released_sum import CLASS_SUMS, GRADIENTS, WEIGHTED_UPDATES
from components.errors import UsageError
from components.evaluation.attacks.advantage import auc, chance_interval
from components.evaluation.attacks.canaries import (
    Sighting,
    drawn_canaries,
    model_scores,
    released_steps,
    scaled_confidence,
    trajectory_scores,
)
from components.training.features import Examples
from components.training.heads import Head, initial, logits
from components.training.local_training.class_sums import class_sums
from components.training.local_training.clipped_gradients import clipped_gradient_sum
from tests.components.evaluation.attacks.population import (
    blank,
    joined,
    moved,
    rows,
    taken,
    update_sightings,
    updated,
    zeros,
)

Float = NDArray[np.float64]
CLASSES, FEATURES = 6, 96
CONFIDENCE = 0.999
"""Of intervals of chance; seeds are fixed, so a test that passes goes on passing."""


def test_canaries_are_drawn_as_they_are_told() -> None:
    count = 4000
    found = drawn_canaries(count, sites=3, features=40, classes=7, generator=np.random.default_rng(1))
    np.testing.assert_allclose(np.linalg.norm(found.examples.features, axis=1), math.sqrt(40), rtol=1e-5)
    assert found.examples.features.dtype == np.float32
    assert np.unique(found.examples.labels).tolist() == list(range(7))
    assert np.unique(found.owners).tolist() == [0, 1, 2]
    # Five deviations of a fair coin, and of the mean of a coordinate of variance 1.
    assert abs(found.included.mean() - 0.5) < 5 * 0.5 / math.sqrt(count)
    assert np.abs(found.examples.features.mean(axis=0)).max() < 5 / math.sqrt(count)


@pytest.mark.parametrize("wrong", ["count", "sites", "features", "classes"])
def test_nothing_to_draw_is_refused(wrong: str) -> None:
    arguments = {"count": 3, "sites": 2, "features": 4, "classes": 2} | {wrong: 0}
    with pytest.raises(UsageError, match="from 1"):
        drawn_canaries(**arguments, generator=np.random.default_rng(1))


def test_against_noise_alone_the_scores_reach_the_closed_form() -> None:
    """AUC = Φ(μ/√2), μ² the sum of the rounds' (C/σ)²; all rounds alike: μ = T/√Σσ², the first: 1/σ₁."""
    deviations = np.array([1.0, 3.0, 2.0, 5.0])
    generator = np.random.default_rng(11)
    classes, features, repeats = 20, 200, 60
    model = blank(classes, features)
    scores: dict[str, list[Float]] = {}
    truth = []
    for _ in range(repeats):
        # Five canaries a class in 200 directions: they disturb each other by 0.6 % of the noise.
        drawn = drawn_canaries(100, sites=1, features=features, classes=classes, generator=generator)
        included = taken(drawn.examples, drawn.included)
        sightings = []
        for deviation in deviations:
            clean = clipped_gradient_sum(model, included, max_grad_norm=1.0, device="cpu")
            seen = clean + deviation * generator.normal(size=clean.size)
            sightings.append(
                Sighting(
                    of=GRADIENTS,
                    model=model,
                    seen=seen,
                    background=zeros(model),
                    deviation=float(deviation),
                    clipping_norm=1.0,
                )
            )
        for name, values in trajectory_scores(sightings, drawn.examples).items():
            scores.setdefault(name, []).append(values)
        truth.append(drawn.included)
    is_member = np.concatenate(truth)
    expected = {
        "rounds by their noise": math.sqrt(float((deviations**-2.0).sum())),
        "all rounds alike": len(deviations) / math.sqrt(float((deviations**2).sum())),
        "first round": 1 / float(deviations[0]),
        "last half of rounds": 2 / math.sqrt(4 + 25),
        "jointly, noise known": math.sqrt(float((deviations**-2.0).sum())),
    }
    for name, shift in expected.items():
        values = np.concatenate(scores[name])
        found = auc(values[is_member], values[~is_member])
        # 3,000 of each: a deviation below √(¼/3000) = 0.009; three of them, and 0.005 for the disturbance.
        assert abs(found - NormalDist().cdf(shift / math.sqrt(2))) < 0.032, name


@pytest.fixture(scope="module")
def site() -> tuple[list[Sighting], Head, Examples, NDArray[np.bool_], Examples]:
    """One site of 300 rows and some 90 of 180 canaries, in 4 rounds of federated averaging."""
    generator = np.random.default_rng(21)
    drawn = drawn_canaries(180, sites=1, features=FEATURES, classes=CLASSES, generator=generator)
    own = rows(300, classes=CLASSES, features=FEATURES, seed=22)
    public = rows(300, classes=CLASSES, features=FEATURES, seed=23, labels=own.labels)
    trained = joined(own, taken(drawn.examples, drawn.included))
    sightings, last = update_sightings(trained, public, blank(CLASSES, FEATURES), rounds=4)
    return sightings, last, drawn.examples, drawn.included, public


Site = tuple[list[Sighting], Head, Examples, NDArray[np.bool_], Examples]


def test_plaintext_updates_give_their_canaries_away(site: Site) -> None:
    sightings, _, examples, included, public = site
    scores = trajectory_scores(sightings, examples, public)
    found = {name: auc(values[included], values[~included]) for name, values in scores.items()}
    # Inner products suffer from real rows and other canaries; who estimates them jointly does not.
    assert found["rounds by their noise"] > 0.9
    assert found["first round"] > 0.8
    assert max(found.values()) > 0.99


def test_canaries_that_were_in_no_training_are_at_chance(site: Site) -> None:
    sightings, last, _, _, public = site
    fresh = drawn_canaries(
        600, sites=1, features=FEATURES, classes=CLASSES, generator=np.random.default_rng(31)
    )
    members = int(fresh.included.sum())
    low, high = chance_interval(members, 600 - members, CONFIDENCE)
    scores = trajectory_scores(sightings, fresh.examples, public) | model_scores(last, fresh.examples)
    assert len(scores) == 14
    for name, values in scores.items():
        assert low < auc(values[fresh.included], values[~fresh.included]) < high, name


def test_a_released_model_alone_gives_canaries_away(site: Site) -> None:
    sightings, last, examples, included, public = site
    alone = trajectory_scores(released_steps([sightings[0].model, last]), examples, public)
    found = {name: auc(values[included], values[~included]) for name, values in alone.items()}
    assert max(found.values()) > 0.97


def test_an_overfit_model_is_surer_of_its_members_and_of_nothing_else() -> None:
    generator = np.random.default_rng(81)
    drawn = drawn_canaries(400, sites=1, features=FEATURES, classes=CLASSES, generator=generator)
    included = taken(drawn.examples, drawn.included)
    model = blank(CLASSES, FEATURES)
    overfit = moved(model, updated(model, included, epochs=40))
    fresh = drawn_canaries(400, sites=1, features=FEATURES, classes=CLASSES, generator=generator)
    members = int(fresh.included.sum())
    low, high = chance_interval(members, 400 - members, CONFIDENCE)
    assert np.mean(logits(overfit, included.features).argmax(axis=1) == included.labels) > 0.95
    for name, values in model_scores(overfit, drawn.examples).items():
        assert auc(values[drawn.included], values[~drawn.included]) > 0.9, name
    for name, values in model_scores(overfit, fresh.examples).items():
        assert low < auc(values[fresh.included], values[~fresh.included]) < high, name


def test_steps_of_released_models_are_what_was_averaged(site: Site) -> None:
    sightings, last, _, _, _ = site
    models = [each.model for each in sightings] + [last]
    steps = released_steps(models, [each.background for each in sightings])
    for step, sighting in zip(steps, sightings, strict=True):
        # Models are float32 of size 1.
        np.testing.assert_allclose(step.seen, sighting.seen, atol=1e-6)
        assert np.array_equal(step.background, sighting.background)


def test_class_sums_in_the_clear_give_canaries_away_and_are_weighed_with_gradients() -> None:
    generator = np.random.default_rng(41)
    drawn = drawn_canaries(120, sites=1, features=FEATURES, classes=CLASSES, generator=generator)
    included = taken(drawn.examples, drawn.included)
    model, norm = blank(CLASSES, FEATURES), math.sqrt(FEATURES)
    sums = class_sums(included, classes=CLASSES, clipping_norm=norm)
    start = Sighting(of=CLASS_SUMS, model=model, seen=sums, background=np.zeros_like(sums))
    alone = trajectory_scores([start], drawn.examples)
    assert auc(alone["jointly"][drawn.included], alone["jointly"][~drawn.included]) == 1.0
    # A part of norm √96 under noise of deviation 2·√96 says as much as one of norm 1 under 2.
    gradient = clipped_gradient_sum(model, included, max_grad_norm=1.0, device="cpu")
    found = []
    for weighs in ("class sums", "gradients"):
        noisy = [
            Sighting(
                of=CLASS_SUMS,
                model=model,
                seen=sums,
                background=np.zeros_like(sums),
                deviation=(2 if weighs == "class sums" else 2000) * norm,
            ),
            Sighting(
                of=GRADIENTS,
                model=model,
                seen=gradient,
                background=zeros(model),
                deviation=2000.0 if weighs == "class sums" else 2.0,
                clipping_norm=1.0,
            ),
        ]
        scores = trajectory_scores(noisy, drawn.examples)
        first = scores["first round"] / norm
        found.append((scores["rounds by their noise"], first))
    np.testing.assert_allclose(found[0][0], found[0][1] / 4, rtol=0.01, atol=0.01)
    assert not np.allclose(found[1][0], found[1][1] / 4, rtol=0.01, atol=0.01)


def test_rounds_without_noise_are_believed_alone() -> None:
    generator = np.random.default_rng(51)
    drawn = drawn_canaries(40, sites=1, features=FEATURES, classes=CLASSES, generator=generator)
    model = blank(CLASSES, FEATURES)
    seen = [generator.normal(size=zeros(model).size) for _ in range(2)]
    made = [
        Sighting(
            of=GRADIENTS,
            model=model,
            seen=each,
            background=zeros(model),
            deviation=deviation,
            clipping_norm=1.0,
        )
        for each, deviation in zip(seen, (3.0, 0.0), strict=True)
    ]
    both, second = (trajectory_scores(each, drawn.examples) for each in (made, made[1:]))
    for name in ("rounds by their noise", "jointly"):
        np.testing.assert_allclose(both[name], second[name], rtol=1e-5, atol=1e-8)


def test_scores_change_nothing_that_they_are_given(site: Site) -> None:
    sightings, _, examples, _, public = site
    before = [each.seen.copy() for each in sightings], examples.features.copy(), public.features.copy()
    trajectory_scores(sightings, examples, public)
    assert all(np.array_equal(each.seen, kept) for each, kept in zip(sightings, before[0], strict=True))
    assert np.array_equal(examples.features, before[1])
    assert np.array_equal(public.features, before[2])


def test_confidence_is_the_log_odds_of_the_softmax_for_any_head() -> None:
    examples = rows(50, classes=CLASSES, features=FEATURES, seed=61)
    for hidden_units, skip in ((8, False), (8, True)):
        model = initial(FEATURES, hidden_units, CLASSES, 1, skip=skip)
        scores = logits(model, examples.features).astype(np.float64)
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        true = shares[np.arange(50), examples.labels]
        np.testing.assert_allclose(
            scaled_confidence(model, examples), np.log(true / (1 - true)), rtol=1e-6, atol=1e-6
        )
        np.testing.assert_allclose(model_scores(model, examples)["loss"], np.log(true), atol=1e-6)


def test_confidence_of_a_certain_model_is_finite() -> None:
    model = {"output.weight": 1000 * np.eye(2, dtype=np.float32), "output.bias": np.zeros(2, np.float32)}
    examples = Examples(features=np.eye(2, dtype=np.float32), labels=np.array([0, 0]))
    assert scaled_confidence(model, examples).tolist() == [1000, -1000]


def test_what_cannot_be_attacked_is_refused(site: Site) -> None:
    sightings, last, examples, included, _ = site
    with pytest.raises(UsageError, match="at least one round"):
        trajectory_scores([], examples)
    with pytest.raises(UsageError, match="at least one round"):
        trajectory_scores(sightings, taken(examples, included & ~included))
    with pytest.raises(UsageError, match="rows must have"):
        trajectory_scores(sightings, rows(20, classes=CLASSES, features=8, seed=1))
    with pytest.raises(UsageError, match="rows must have"):
        trajectory_scores(sightings, examples, rows(20, classes=CLASSES, features=8, seed=1))
    with pytest.raises(UsageError, match="from one model to another"):
        released_steps([last])
    deep = initial(FEATURES, 8, CLASSES, 0)
    with pytest.raises(UsageError, match="linear heads"):
        released_steps([deep, deep])


def test_gradients_of_unknown_norm_are_attacked_all_the_same() -> None:
    generator = np.random.default_rng(71)
    drawn = drawn_canaries(120, sites=1, features=FEATURES, classes=CLASSES, generator=generator)
    model = blank(CLASSES, FEATURES)
    seen = clipped_gradient_sum(
        model, taken(drawn.examples, drawn.included), max_grad_norm=0.01, device="cpu"
    )
    for of, sign in ((GRADIENTS, 1), (WEIGHTED_UPDATES, -1)):
        sighting = Sighting(of=of, model=model, seen=sign * seen, background=zeros(model))
        scores = trajectory_scores([sighting], drawn.examples)["jointly"]
        assert auc(scores[drawn.included], scores[~drawn.included]) == 1.0
