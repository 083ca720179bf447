"""A population with class means and directions in which its rows vary, and sums of it by the real modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.agreement.released_sum import CLASS_SUMS, WEIGHTED_UPDATES
from components.evaluation.attacks.canaries import Sighting
from components.training.features import Examples
from components.training.heads import Head, initial
from components.training.local_training.federated_averaging import local_update

Float = NDArray[np.float64]


def flat(tensors: Mapping[str, NDArray[Any]]) -> Float:
    """Bias first, then the weights row by row."""
    return np.concatenate([tensors[name].ravel() for name in sorted(tensors)]).astype(np.float64)


def moved(model: Head, vector: Float) -> Head:
    """A linear head after a step."""
    classes = len(model["output.bias"])
    return {
        "output.bias": (model["output.bias"] + vector[:classes]).astype(np.float32),
        "output.weight": (
            model["output.weight"] + vector[classes:].reshape(model["output.weight"].shape)
        ).astype(np.float32),
    }


def rows(count: int, *, classes: int, features: int, seed: int, labels: Any = None) -> Examples:
    """Rows of norm √features about class means; their spread lies in an eighth of the directions."""
    shared = np.random.default_rng(99)
    means = shared.normal(size=(classes, features))
    directions = shared.normal(size=(features // 8, features)) * 1.5
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, classes, count) if labels is None else np.asarray(labels)
    found = (
        means[chosen]
        + generator.normal(size=(count, features // 8)) @ directions / 2
        + 0.2 * generator.normal(size=(count, features))
    )
    found *= np.sqrt(features) / np.linalg.norm(found, axis=1, keepdims=True)
    return Examples(features=found.astype(np.float32), labels=chosen.astype(np.int64))


def joined(first: Examples, second: Examples) -> Examples:
    return Examples(
        features=np.concatenate([first.features, second.features]),
        labels=np.concatenate([first.labels, second.labels]),
    )


def taken(examples: Examples, which: NDArray[np.bool_]) -> Examples:
    return Examples(features=examples.features[which], labels=examples.labels[which])


def blank(classes: int, features: int) -> Head:
    return initial(features, 0, classes, 0)


def zeros(model: Head, of: str = WEIGHTED_UPDATES) -> Float:
    """A background of which nothing is known."""
    return np.zeros(model["output.weight"].size + (0 if of == CLASS_SUMS else len(model["output.bias"])))


def updated(model: Head, examples: Examples, *, epochs: int = 2, rate: float = 0.05, seed: int = 1) -> Float:
    """Δw of federated averaging."""
    return flat(
        local_update(
            model,
            examples,
            local_epochs=epochs,
            learning_rate=rate,
            batch_size=16,
            seed=seed,
            device="cpu",
        )
    )


def update_sightings(
    trained: Examples, public: Examples | None, model: Head, *, rounds: int, epochs: int = 2
) -> tuple[list[Sighting], Head]:
    """One site's plaintext updates over rounds of federated averaging with itself, and the last model.

    The background is what public rows would have moved the model by.
    """
    found = []
    for number in range(rounds):
        seen = updated(model, trained, epochs=epochs, seed=number)
        known = zeros(model) if public is None else updated(model, public, epochs=epochs, seed=number)
        found.append(Sighting(of=WEIGHTED_UPDATES, model=model, seen=seen, background=known))
        model = moved(model, seen)
    return found, model
