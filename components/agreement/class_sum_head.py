"""From opened class sums to the model a schedule starts from; every party comes to the same bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from components.errors import IntegrityError, UsageError


def head_from_class_sums(
    sums: NDArray[np.float64],
    *,
    head: Mapping[str, NDArray[np.float32]],
    logit_scale: float,
    feature_norm: float,
) -> dict[str, NDArray[np.float32]]:
    """A head whose linear part scores the cosine to every class's sum; only what was opened is used.

    Row c of the linear part is logit_scale / feature_norm · S_c / ‖S_c‖. Shrinking rows by how much of
    them is noise was tried: it silences rare classes and costs 2 to 8 points of accuracy.

    Args:
        sums: opened, (classes · features,).
        head: the genesis head: linear, or with a skip connection, which takes the linear part; its
            other tensors are kept but for the output layer behind hidden units, which starts at zero.
        logit_scale: logit of a row that points exactly along its class's sum; 16 suits
            centred features, 32 others.
        feature_norm: norm of a row of features; √d as `augment` stores them.

    Raises:
        UsageError: the head has hidden units and no skip connection.
        IntegrityError: the opened sums do not fit the head, or are not finite.
    """
    name = "skip.weight" if "skip.weight" in head else "output.weight"
    if "hidden.weight" in head and name == "output.weight":
        raise UsageError("class sums start a linear head or one with a skip connection: this one has neither")
    if sums.shape != (head[name].size,) or not np.all(np.isfinite(sums)):
        raise IntegrityError(
            f"class sums must be {head[name].size} finite values for this head, got {sums.shape}"
        )
    rows = sums.reshape(-1, head[name].shape[1])
    # fsum is rounded once, whatever the order: every party must come to the same bytes.
    lengths = np.sqrt([math.fsum((row * row).tolist()) for row in rows])
    factor = np.divide(logit_scale / feature_norm, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    start = {kept: values.copy() for kept, values in head.items()}
    start[name] = (factor[:, None] * rows).astype(np.float32)
    for silent in {"output.weight", "output.bias"} - {name}:
        start[silent] = np.zeros_like(head[silent])
    return start
