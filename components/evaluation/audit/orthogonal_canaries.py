"""Canaries whose clipped gradients hardly disturb each other: as many as the model has room for.

A row's gradient of a linear head is (p - e_y) ⊗ [z; 1]. Rows along axes of one orthonormal basis have
orthogonal gradients but for the bias, and rows along one axis with different labels nearly so. With
‖z‖ = sqrt(features), as `augment` stores features, a gradient is far longer than the clipping norm, so that
every canary's part in a sum is as long as one row's may be. No other rows would show a mechanism more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.errors import UsageError
from components.evaluation.attacks.canaries import Canaries
from components.training.features import Examples

LARGEST: Final = 8192
"""Canaries of one run at most."""


@dataclass(frozen=True, kw_only=True)
class OrthogonalCanaries:
    """Rows that belong to nobody, axis after axis.

    Attributes:
        canaries: axes · labels_each of them; those of one axis stand together.
        axes: how many, as many as there are features.
        labels_each: canaries along each axis, each with a label of its own.
    """

    canaries: Canaries
    axes: int
    labels_each: int

    @property
    def count(self) -> int:
        """How many there are: m."""
        return self.axes * self.labels_each


def labels_each(features: int, classes: int) -> int:
    """Canaries along one axis: one label fewer than classes, whose errors p - e_y add up to a constant.

    Raises:
        UsageError: there are too few classes or features.
    """
    if classes < 2 or features < 1:
        raise UsageError(f"canaries need 2 classes and 1 feature at least, got {classes} and {features}")
    return max(1, min(classes - 1, LARGEST // features))


def drawn(features: int, classes: int, *, owners: int, generator: np.random.Generator) -> OrthogonalCanaries:
    """A random basis, random labels, and for each canary a fair coin and an owner.

    Args:
        features: of the head.
        classes: of the head.
        owners: sites that may own canaries, numbered from 0.
        generator: of basis, labels, coins and owners.
    """
    each = labels_each(features, classes)
    basis, _ = np.linalg.qr(generator.standard_normal((features, features)))
    rows = np.repeat(basis * np.sqrt(features), each, axis=0)
    labels = np.concatenate([generator.permutation(classes)[:each] for _ in range(features)])
    count = len(labels)
    return OrthogonalCanaries(
        canaries=Canaries(
            examples=Examples(features=rows.astype(np.float32), labels=labels.astype(np.int64)),
            included=generator.random(count) < 0.5,
            owners=generator.integers(0, owners, count, dtype=np.int64),
        ),
        axes=features,
        labels_each=each,
    )


def guessed_right(scores: NDArray[np.float64], included: NDArray[np.bool_], guesses: int) -> int:
    """Right guesses of so many: half of them "included", of the highest scores, half "left out".

    Args:
        scores: (m,), higher where a canary was rather included.
        included: (m,), the coins.
        guesses: r, an even number up to m.
    """
    order, half = np.argsort(scores, kind="stable"), guesses // 2
    left_out, taken = order[:half], order[len(order) - half :]
    return int((~included[left_out]).sum() + included[taken].sum())
