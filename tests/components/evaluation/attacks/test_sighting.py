"""A row's part of a sum is what the real training modules add for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from components.agreement.released_sum import CLASS_SUMS, GRADIENTS, GRAM_SUMS, WEIGHTED_UPDATES
from components.errors import UsageError
from components.evaluation.attacks.sighting import Sighting, part_norms, parts_sum, row_errors
from components.training.features import Examples
from components.training.heads import Head, initial
from components.training.local_training.class_sums import class_sums
from components.training.local_training.clipped_gradients import clipped_gradient_sum
from components.training.local_training.federated_averaging import local_update
from tests.components.evaluation.attacks.population import flat, rows, zeros

CLASSES, FEATURES = 5, 16


def head(seed: int = 0) -> Head:
    generator = np.random.default_rng(seed)
    return {
        "output.bias": generator.normal(size=CLASSES).astype(np.float32),
        "output.weight": (0.1 * generator.normal(size=(CLASSES, FEATURES))).astype(np.float32),
    }


def sighting(of: str, **arguments: Any) -> Sighting:
    model = arguments.pop("model", head())
    return Sighting(
        **({"of": of, "model": model, "seen": zeros(model, of), "background": zeros(model, of)} | arguments)
    )


@pytest.mark.parametrize("clipping_norm", [0.5, 2.5, 100.0])
def test_parts_of_gradients_are_the_clipped_sum(clipping_norm: float) -> None:
    examples = rows(40, classes=CLASSES, features=FEATURES, seed=1)
    seen = sighting(GRADIENTS, clipping_norm=clipping_norm)
    expected = clipped_gradient_sum(seen.model, examples, max_grad_norm=clipping_norm, device="cpu")
    found = parts_sum(seen, row_errors(seen, examples), examples)
    # Parts are computed in float32: 2^-24 of some 40 terms of at most 100.
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-4)


def test_gradients_of_unknown_clipping_count_with_norm_one() -> None:
    examples = rows(40, classes=CLASSES, features=FEATURES, seed=1)
    seen = sighting(GRADIENTS)
    errors = row_errors(seen, examples)
    np.testing.assert_allclose(part_norms(seen, errors, examples), 1, rtol=1e-5)


@pytest.mark.parametrize("clipping_norm", [None, 2.0])
def test_parts_of_class_sums_are_the_class_sums(clipping_norm: float | None) -> None:
    examples = rows(40, classes=CLASSES, features=FEATURES, seed=2)
    seen = sighting(CLASS_SUMS, clipping_norm=clipping_norm)
    limit = clipping_norm or 4.0  # √16, which clips nothing
    expected = class_sums(examples, classes=CLASSES, clipping_norm=limit)
    found = parts_sum(seen, row_errors(seen, examples), examples)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_parts_of_an_update_are_one_step_of_it() -> None:
    examples = rows(30, classes=CLASSES, features=FEATURES, seed=3)
    seen = sighting(WEIGHTED_UPDATES)
    step = local_update(
        seen.model, examples, local_epochs=1, learning_rate=0.5, batch_size=30, seed=1, device="cpu"
    )
    found = parts_sum(seen, row_errors(seen, examples), examples)
    # A step is the rate times the mean over rows; weights are float32.
    np.testing.assert_allclose(0.5 / 30 * found, flat(step), atol=1e-5)


def test_norms_are_those_of_parts_written_out() -> None:
    examples = rows(7, classes=CLASSES, features=FEATURES, seed=4)
    for of in (GRADIENTS, WEIGHTED_UPDATES, CLASS_SUMS):
        seen = sighting(of, clipping_norm=3.0)
        errors = row_errors(seen, examples)
        for row in range(7):
            one = Examples(features=examples.features[row : row + 1], labels=examples.labels[row : row + 1])
            part = parts_sum(seen, errors[row : row + 1], one)
            assert part_norms(seen, errors, examples)[row] == pytest.approx(np.linalg.norm(part), rel=1e-5)


def test_what_was_seen_is_read_less_the_background_and_left_as_it_is() -> None:
    vector = np.arange(CLASSES * (FEATURES + 1), dtype=np.float64)
    seen = sighting(GRADIENTS, seen=vector, background=np.ones_like(vector))
    assert seen.bias.tolist() == [-1, 0, 1, 2, 3]
    assert seen.weights[0, 0] == CLASSES - 1
    assert seen.weights.shape == (CLASSES, FEATURES)
    assert vector[0] == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": initial(FEATURES, 8, CLASSES, 0)}, "linear heads"),
        ({"after": initial(FEATURES, 8, CLASSES, 0, skip=True)}, "linear heads"),
        ({"of": GRAM_SUMS}, "no attack here reads"),
        ({"seen": np.zeros(7)}, "values"),
        ({"background": np.zeros(7)}, "values"),
        ({"deviation": -1.0}, "deviation"),
        ({"deviation": float("nan")}, "deviation"),
        ({"clipping_norm": 0.0}, "clipping norm"),
    ],
)
def test_what_no_attack_can_read_is_refused(change: dict[str, Any], told: str) -> None:
    vector = zeros(head(), WEIGHTED_UPDATES)
    with pytest.raises(UsageError, match=told):
        sighting(**({"of": WEIGHTED_UPDATES, "seen": vector, "background": vector} | change))


@pytest.mark.parametrize("labels", [[0, CLASSES], [-1, 0]])
def test_rows_of_another_head_are_refused(labels: list[int]) -> None:
    with pytest.raises(UsageError, match="rows must have"):
        row_errors(
            sighting(GRADIENTS),
            Examples(features=np.zeros((2, FEATURES), np.float32), labels=np.array(labels)),
        )
    with pytest.raises(UsageError, match="rows must have"):
        row_errors(
            sighting(GRADIENTS),
            Examples(features=np.zeros((1, 3), np.float32), labels=np.zeros(1, np.int64)),
        )
