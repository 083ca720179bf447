"""`analytic`: a head in one round, solved from sums of outer products.

AFL (He et al. 2025, "AFL: A Single-Round Analytic Approach for Federated Learning", CVPR) without its
recursion, on random features (Huang et al. 2006, "Extreme Learning Machine"), released as sufficient
statistics with noise (Vu and Slavković 2009). With W public, drawn from the charter's seed, and

    φ = u / max(1, ‖u‖₂),   u = [z; relu(W z)],   m = features + hidden_units,

a site releases Σ φφᵀ and Σ φ e(y)ᵀ, and everybody solves V = (Σφφᵀ + λI)⁻¹ Σ φ e(y)ᵀ. relu keeps
positive factors, so dividing u by its norm scales all scores of a row alike: V is an ordinary head with
a skip connection, W_h = W, W_s and W_o the two parts of V, that decides as the solve does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from components.errors import UsageError
from components.training.features import Examples
from components.training.local_training.class_sums import check_rows
from components.training.local_training.clipped_gradients import ROWS_AT_ONCE

Float64 = NDArray[np.float64]


def clipped_features(features: NDArray[np.float32], hidden_weight: NDArray[np.float32]) -> Float64:
    """φ of every row, (n, m), each of norm at most 1.

    Args:
        features: (n, features); at norm √d, as `augment` stores them, every φ has norm 1.
        hidden_weight: W, (hidden_units, features); no rows where there are no hidden units.
    """
    linear = features.astype(np.float64)
    hidden = np.maximum(linear @ hidden_weight.astype(np.float64).T, 0)
    joint: Float64 = np.concatenate([linear, hidden], axis=1)
    lengths = np.linalg.norm(joint, axis=1, keepdims=True)
    joint /= np.maximum(lengths, 1)
    return joint


def gram_sums(
    examples: Examples,
    *,
    classes: int,
    hidden_weight: NDArray[np.float32],
    cross_weight: float = 1.0,
) -> Float64:
    """What a site releases: [upper triangle of Σφφᵀ, off-diagonal times √2; w · Σφe(y)ᵀ].

    The factor √2 makes the L2 norm of the triangle the Frobenius norm of the matrix, and the noise on
    it symmetric. The sensitivity of the whole vector is `gram_sensitivity(cross_weight)`, example level.

    Args:
        examples: training rows, any number; a sum over none is zero.
        classes: number of classes.
        hidden_weight: W, see `heads.random_features`.
        cross_weight: w, above 0; 2 puts more of the budget on what small budgets need, see the README.

    Returns:
        float64, (`gram_length(…)`,): the triangle row by row, then the (m, classes) matrix row by row.

    Raises:
        UsageError: w is out of range.
        BadDataError: rows do not fit each other, a label is no class, or a feature is not finite.
    """
    if not (math.isfinite(cross_weight) and cross_weight > 0):
        raise UsageError(f"cross_weight must be a finite number above 0, got {cross_weight!r}")
    check_rows(examples, classes)
    width = sum(hidden_weight.shape)
    gram, cross = np.zeros((width, width)), np.zeros((width, classes))
    for start in range(0, len(examples.labels), ROWS_AT_ONCE):
        block = clipped_features(examples.features[start : start + ROWS_AT_ONCE], hidden_weight)
        labels = examples.labels[start : start + ROWS_AT_ONCE]
        gram += block.T @ block
        cross += block.T @ (labels[:, None] == np.arange(classes)).astype(np.float64)
    rows, columns = np.triu_indices(width)
    triangle = gram[rows, columns] * np.where(rows == columns, 1.0, math.sqrt(2))
    return np.concatenate([triangle, cross_weight * cross.ravel()])
