"""What a party saw of a round, and what one row would have added to it.

A row's part of every vector that a round of a linear head sums is an outer product of an error, one value a
class, and the row's features with a 1 for the bias (Goodfellow 2015, "Efficient Per-Example Gradient
Computations"): nothing of length d is written out for a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.agreement.released_sum import CLASS_SUMS, GRADIENTS, WEIGHTED_UPDATES
from components.errors import UsageError
from components.training.features import Examples
from components.training.heads import Head, logits

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

_LINEAR: Final = frozenset({"output.weight", "output.bias"})
_TINY: Final = np.float32(1e-20)


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """One round's vector as an adversary sees it, with what the adversary knows beside it.

    Attributes:
        of: `CLASS_SUMS`, `GRADIENTS` or `WEIGHTED_UPDATES`, see `released_sum`.
        model: the linear head before the round.
        seen: (d,): classes·features class sums, else bias and weights in the order of sorted names.
        background: (d,), what rows of the known class prior would have contributed; 0 where nothing is known.
        deviation: noise on each value as the adversary knows it; 0 for none.
        clipping_norm: largest norm of one row's part, in units of `seen`; that of DP-SGD for updates that
            come of it. None where rows are not clipped, or nobody knows to what: gradients then count with
            norm 1 and their scale is found from what is seen.
        after: the head that a site's own update has led to, where the adversary can tell: from Δw, or n·Δw
            and n in the clear. Label inference then reads errors off halfway.

    Raises:
        UsageError: the head is not linear, the round is of another kind, or lengths differ.
    """

    of: str
    model: Head
    seen: Float
    background: Float
    deviation: float = 0.0
    clipping_norm: float | None = None
    after: Head | None = None

    def __post_init__(self) -> None:
        """Checks its parts against each other."""
        require_linear(self.model)
        if self.after is not None:
            require_linear(self.after)
        if self.of not in (CLASS_SUMS, GRADIENTS, WEIGHTED_UPDATES):
            raise UsageError(f"no attack here reads {self.of}: it reads class sums, gradients and updates")
        classes, features = self.model["output.weight"].shape
        length = classes * features + (0 if self.of == CLASS_SUMS else classes)
        if self.seen.shape != (length,) or self.background.shape != (length,):
            raise UsageError(
                f"{self.of} of this head have {length} values, got {self.seen.shape} seen "
                f"and {self.background.shape} of background"
            )
        if not (self.deviation >= 0 and (self.clipping_norm is None or self.clipping_norm > 0)):
            raise UsageError(
                "a deviation from 0 and a clipping norm above 0 are needed, "
                f"got {self.deviation!r} and {self.clipping_norm!r}"
            )

    @property
    def has_bias(self) -> bool:
        """Whether the vector has a value a class for the bias, before the weights."""
        return self.of != CLASS_SUMS

    @cached_property
    def weights(self) -> Float32:
        """Seen less background, of the weights: (classes, features)."""
        return self.as_rows(self.seen - self.background)[1]

    @cached_property
    def bias(self) -> Float32:
        """Seen less background, of the bias: (classes,), zeros for class sums."""
        return self.as_rows(self.seen - self.background)[0]

    def as_rows(self, vector: Float) -> tuple[Float32, Float32]:
        """Bias (classes,) and weights (classes, features) of a vector of this round's form."""
        classes, features = self.model["output.weight"].shape
        start = classes if self.has_bias else 0
        bias = vector[:start].astype(np.float32) if start else np.zeros(classes, np.float32)
        return bias, vector[start:].reshape(classes, features).astype(np.float32)


def require_linear(model: Mapping[str, NDArray[np.float32]]) -> None:
    """Passes a head without hidden units.

    Raises:
        UsageError: it has other tensors.
    """
    if set(model) != _LINEAR:
        raise UsageError(
            f"attacks read linear heads, this one has {', '.join(sorted(model))}: set hidden_units to 0"
        )


def require_rows(sighting: Sighting, examples: Examples) -> None:
    """Passes rows that fit a sighting's head.

    Raises:
        UsageError: they have other features or labels.
    """
    classes, features = sighting.model["output.weight"].shape
    labels = examples.labels
    if examples.features.shape != (len(labels), features) or (
        len(labels) and not 0 <= labels.min() <= labels.max() < classes
    ):
        raise UsageError(
            f"rows must have {features} features and a label in 0…{classes - 1} for this head, "
            f"got {examples.features.shape} features of {len(labels)} rows"
        )


def probabilities(model: Mapping[str, NDArray[np.float32]], features: Float32) -> Float32:
    """Softmax of a head's scores, (n, classes)."""
    scores = logits(model, features)
    shares: Float32 = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def row_errors(sighting: Sighting, examples: Examples) -> Float32:
    """Left factors of what each row adds to the sum: its part is errors ⊗ [features, 1], (n, classes).

    GRADIENTS: (softmax − onehot)·min(1, C/‖g‖), to norm 1 where C is not known. WEIGHTED_UPDATES: the
    negative, as an update moves along it to first order, in unknown units; clipped if C is known. CLASS_SUMS:
    onehot·min(1, C/‖z‖), without the bias.

    Raises:
        UsageError: rows do not fit the head.
    """
    require_rows(sighting, examples)
    labels, classes = examples.labels, len(sighting.model["output.bias"])
    rows = np.arange(len(labels))
    if sighting.of == CLASS_SUMS:
        errors = np.zeros((len(labels), classes), np.float32)
        errors[rows, labels] = 1
    else:
        errors = probabilities(sighting.model, examples.features)
        errors[rows, labels] -= 1
    if sighting.of == WEIGHTED_UPDATES:
        np.negative(errors, out=errors)
    limit = sighting.clipping_norm
    if limit is None and sighting.of == GRADIENTS:
        errors /= np.maximum(part_norms(sighting, errors, examples), _TINY)[:, None]
    elif limit is not None:
        norms = np.maximum(part_norms(sighting, errors, examples), _TINY)
        errors *= np.minimum(1, np.float32(limit) / norms)[:, None]
    return errors


def part_norms(sighting: Sighting, errors: Float32, examples: Examples) -> Float32:
    """‖errors ⊗ [features, 1]‖₂ of each row, (n,)."""
    squares = np.einsum("ij,ij->i", examples.features, examples.features)
    if sighting.has_bias:
        squares = squares + np.float32(1)
    norms: Float32 = np.sqrt(np.einsum("ij,ij->i", errors, errors) * squares)
    return norms


def parts_sum(sighting: Sighting, errors: Float32, examples: Examples) -> Float:
    """Σ errors ⊗ [features, 1] over rows, as a vector of this round's form, float64 (d,)."""
    weights = (errors.T @ examples.features).astype(np.float64).ravel()
    if not sighting.has_bias:
        return weights
    return np.concatenate([errors.sum(axis=0, dtype=np.float64), weights])
