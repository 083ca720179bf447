"""The classification head on frozen features, in numpy.

A head is a dict of float32 arrays. Linear: `output.weight` (classes, features) and `output.bias`
(classes,). With `hidden_units` > 0 a ReLU layer stands before it: `hidden.weight`
(hidden_units, features), `hidden.bias` (hidden_units,), and `output.weight` is
(classes, hidden_units).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Head = dict[str, NDArray[np.float32]]


def initial(features: int, hidden_units: int, classes: int, seed: int) -> Head:
    """The genesis model: zeros for a linear head, else uniform in ±1/√fan_in (as torch.nn.Linear).

    Everybody who is told the four numbers gets the same bytes.
    """
    if hidden_units == 0:
        return {
            "output.weight": np.zeros((classes, features), np.float32),
            "output.bias": np.zeros(classes, np.float32),
        }
    generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(shape: tuple[int, ...], fan_in: int) -> NDArray[np.float32]:
        bound = 1.0 / np.sqrt(fan_in)
        return generator.uniform(-bound, bound, shape).astype(np.float32)

    return {
        "hidden.weight": uniform((hidden_units, features), features),
        "hidden.bias": uniform((hidden_units,), features),
        "output.weight": uniform((classes, hidden_units), hidden_units),
        "output.bias": uniform((classes,), hidden_units),
    }


def penultimate(
    head: Mapping[str, NDArray[np.float32]], features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Input of the last linear layer, shape (n, hidden_units), or the features of a linear head."""
    if "hidden.weight" not in head:
        return features
    hidden: NDArray[np.float32] = features @ head["hidden.weight"].T + head["hidden.bias"]
    return np.maximum(hidden, np.float32(0))


def logits(head: Mapping[str, NDArray[np.float32]], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of shape (n, classes)."""
    scores: NDArray[np.float32] = penultimate(head, features) @ head["output.weight"].T + head["output.bias"]
    return scores
