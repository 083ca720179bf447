"""The classification head on frozen features, in numpy.

A head is a dict of float32 arrays. Linear: `output.weight` (classes, features) and `output.bias`
(classes,). With `hidden_units` > 0 a ReLU layer stands before it: `hidden.weight`
(hidden_units, features), `hidden.bias` (hidden_units,), and `output.weight` is
(classes, hidden_units). Such a head may have a skip connection, `skip.weight` (classes, features):

    logits = W_o relu(W_h z + b_h) + W_s z + b_o.

Without it a narrow hidden layer holds back what a linear head would have learned within a few rounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from components.errors import UsageError

Head = dict[str, NDArray[np.float32]]


def initial(features: int, hidden_units: int, classes: int, seed: int, skip: bool = False) -> Head:
    """The genesis model: zeros for a linear head, else uniform in ±1/√fan_in (as torch.nn.Linear).

    A skip connection starts at zero and leaves the other tensors as they are without it. Everybody who
    is told the same arguments gets the same bytes.

    Raises:
        UsageError: a skip connection without hidden units, which it would skip.
    """
    if hidden_units == 0:
        if skip:
            raise UsageError("a skip connection needs hidden_units above 0, got 0: a linear head is one")
        return {
            "output.weight": np.zeros((classes, features), np.float32),
            "output.bias": np.zeros(classes, np.float32),
        }
    generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(shape: tuple[int, ...], fan_in: int) -> NDArray[np.float32]:
        bound = 1.0 / np.sqrt(fan_in)
        return generator.uniform(-bound, bound, shape).astype(np.float32)

    head = {
        "hidden.weight": uniform((hidden_units, features), features),
        "hidden.bias": uniform((hidden_units,), features),
        "output.weight": uniform((classes, hidden_units), hidden_units),
        "output.bias": uniform((classes,), hidden_units),
    }
    return head | {"skip.weight": np.zeros((classes, features), np.float32)} if skip else head


def to_be_solved(features: int, hidden_units: int, classes: int, seed: int) -> Head:
    """The genesis model of `analytic`: public random features behind which everything is zero.

    The hidden layer's weights are uniform with variance 1/hidden_units, so ‖relu(Wz)‖ is about ‖z‖/√2 for
    any number of hidden units, and neither part drowns the other. A linear head without hidden units, else
    one with a skip connection.
    """
    head = initial(features, hidden_units, classes, seed, skip=hidden_units > 0)
    blank = {name: np.zeros_like(values) for name, values in head.items()}
    return blank | {"hidden.weight": random_features(features, hidden_units, seed)} if hidden_units else blank


def random_features(features: int, hidden_units: int, seed: int) -> NDArray[np.float32]:
    """W, (hidden_units, features): see `to_be_solved`; no rows without hidden units."""
    if hidden_units == 0:
        return np.zeros((0, features), np.float32)
    bound = math.sqrt(3 / hidden_units)
    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.uniform(-bound, bound, (hidden_units, features)).astype(np.float32)


def penultimate(
    head: Mapping[str, NDArray[np.float32]], features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Input of the last linear layer, shape (n, width).

    The features of a linear head; the hidden units of an MLP; both, hidden units first, where a skip
    connection makes them one layer's input.
    """
    if "hidden.weight" not in head:
        return features
    before: NDArray[np.float32] = features @ head["hidden.weight"].T + head["hidden.bias"]
    hidden: NDArray[np.float32] = np.maximum(before, np.float32(0))
    return np.concatenate([hidden, features], axis=1) if "skip.weight" in head else hidden


def last_layer(head: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Weights of the last linear layer, (classes, width): what `penultimate` is multiplied with."""
    if "skip.weight" not in head:
        return head["output.weight"]
    return np.concatenate([head["output.weight"], head["skip.weight"]], axis=1)


def last_layer_tensors(head: Mapping[str, NDArray[np.float32]], weight: NDArray[np.float32]) -> Head:
    """Inverse of `last_layer`: (classes, width) under the names of `head`."""
    if "skip.weight" not in head:
        return {"output.weight": weight}
    hidden_units = head["output.weight"].shape[1]
    return {
        "output.weight": np.ascontiguousarray(weight[:, :hidden_units]),
        "skip.weight": np.ascontiguousarray(weight[:, hidden_units:]),
    }


def logits(head: Mapping[str, NDArray[np.float32]], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of shape (n, classes)."""
    scores: NDArray[np.float32] = penultimate(head, features) @ last_layer(head).T + head["output.bias"]
    return scores


def logits_row_by_row(
    head: Mapping[str, NDArray[np.float32]], features: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Scores of shape (n, classes) in float64, each row's the same bits whatever other rows there are.

    A matrix product rounds a row by its place among others: near a tie another row could turn what the model
    says of it, which no noise of a single row's contribution covers. Sums of `einsum` have one order.
    """
    inputs = features.astype(np.float64)
    if "hidden.weight" in head:
        hidden = _sums(inputs, head["hidden.weight"]) + head["hidden.bias"]
        inputs = np.maximum(hidden, 0.0)
        if "skip.weight" in head:
            inputs = np.concatenate([inputs, features.astype(np.float64)], axis=1)
    scores: NDArray[np.float64] = _sums(inputs, last_layer(head)) + head["output.bias"]
    return scores


def _sums(rows: NDArray[np.float64], weight: NDArray[np.float32]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.einsum("nd,kd->nk", rows, weight.astype(np.float64))
    return found
