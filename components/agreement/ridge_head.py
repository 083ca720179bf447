"""From opened Gram sums to a head: the solve behind `analytic`, the same bytes for every party.

A site releases the upper triangle of Σφφᵀ, off-diagonal values times √2, and w·Σφe(y)ᵀ, where every φ has
a norm of at most 1; the head is V = (Σφφᵀ + λI)⁻¹ Σφe(y)ᵀ. A library's solve differs between machines in
its last bits, and a model is known by its digest: so the factorisation (Cholesky's, column by column) is
written in +, −, ×, ÷ and √ on whole arrays, one value at a time, which IEEE 754 rounds alike everywhere.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from components.errors import IntegrityError, UsageError

Float64 = NDArray[np.float64]

RELATIVE_RIDGE = 1e-2
NOISE_RIDGE = 1.125
LOGIT_SCALE = 20.0
"""The solve gives scores from 0 to 1; softmax is told this multiple of them."""
_MOST_DOUBLINGS = 64


def gram_sensitivity(cross_weight: float) -> float:
    """√(1 + w²): L2 by which adding or removing one example changes its sums at most, whatever it is.

    With ‖φ‖ ≤ 1 the scaled triangle has the Frobenius norm ‖φφᵀ‖ = ‖φ‖² ≤ 1, and w·φe(y)ᵀ one of
    w·‖φ‖ ≤ w. Both are reached together where ‖φ‖ = 1, so no smaller number would do.
    """
    return math.sqrt(1 + cross_weight**2)


def gram_length(features: int, hidden_units: int, classes: int) -> int:
    """Values of the released sums: m(m + 1)/2 + m·classes, with m = features + hidden_units."""
    width = features + hidden_units
    return width * (width + 1) // 2 + width * classes


def ridge_head(
    opened: Float64,
    *,
    classes: int,
    hidden_weight: NDArray[np.float32],
    cross_weight: float = 1.0,
    ridge: float = 1.0,
    noise_deviation: float = 0.0,
    feature_norm: float,
    logit_scale: float = LOGIT_SCALE,
) -> dict[str, NDArray[np.float32]]:
    """Solves the opened sums for a head; nothing but what was opened is used.

    Args:
        opened: sum over sites, float64, (`gram_length(…)`,): the triangle row by row, then the
            (m, classes) matrix row by row.
        classes: number of classes.
        hidden_weight: W, (hidden_units, features), as the sites had it; no rows for a linear head.
        cross_weight: w, as the sites had it.
        ridge: λ in units of `default_lam`, above 0. Where noise leaves Σφφᵀ + λI without a positive
            pivot, λ is doubled until it has: everybody comes to the same one.
        noise_deviation: σ of the noise on every coordinate of `opened`, 0 without.
        feature_norm: norm of a row of features; √d as `augment` stores them.
        logit_scale: multiple of the solve's scores that softmax is told.

    Returns:
        A linear head without hidden units, else one with a skip connection. Biases are zero.

    Raises:
        UsageError: the ridge is out of range.
        IntegrityError: the opened sums are not finite or of another length, or of nobody.
    """
    if not (math.isfinite(ridge) and ridge > 0):
        raise UsageError(f"ridge must be a finite number above 0, got {ridge!r}")
    gram, cross = unpacked(opened, classes=classes, hidden_weight=hidden_weight, cross_weight=cross_weight)
    solved = _solved(gram, cross, ridge * default_lam(gram, noise_deviation))

    hidden_units, features = hidden_weight.shape
    usual_norm = feature_norm * (math.sqrt(1.5) if hidden_units else 1.0)
    weight = (logit_scale / usual_norm * solved.T).astype(np.float32)
    bias = np.zeros(classes, np.float32)
    if not hidden_units:
        return {"output.weight": weight, "output.bias": bias}
    return {
        "hidden.weight": hidden_weight.copy(),
        "hidden.bias": np.zeros(hidden_units, np.float32),
        "output.weight": np.ascontiguousarray(weight[:, features:]),
        "output.bias": bias,
        "skip.weight": np.ascontiguousarray(weight[:, :features]),
    }


def default_lam(gram: Float64, noise_deviation: float) -> float:
    """λ = trace⁺/(100·m) + 1.125·σ·√(2m), for an (m, m) Gram matrix.

    The first term is a hundredth of the mean eigenvalue. Noise of deviation σ spreads eigenvalues over a
    semicircle of radius σ√(2m) (Wigner 1955): the second term lifts what lies below zero above it.
    """
    width = len(gram)
    trace = math.fsum(gram.diagonal().tolist())
    return RELATIVE_RIDGE * max(0.0, trace) / width + NOISE_RIDGE * noise_deviation * math.sqrt(2 * width)


def unpacked(
    opened: Float64, *, classes: int, hidden_weight: NDArray[np.float32], cross_weight: float
) -> tuple[Float64, Float64]:
    """The symmetric (m, m) and the (m, classes) matrix of opened sums.

    Raises:
        IntegrityError: they are not finite or of another length.
    """
    hidden_units, features = hidden_weight.shape
    width, wanted = features + hidden_units, gram_length(features, hidden_units, classes)
    if opened.shape != (wanted,) or not np.all(np.isfinite(opened)):
        raise IntegrityError(f"opened Gram sums must be {wanted} finite values, got shape {opened.shape}")
    rows, columns = np.triu_indices(width)
    triangle = opened[: len(rows)] / np.where(rows == columns, 1.0, math.sqrt(2))
    gram = np.zeros((width, width))
    gram[rows, columns] = triangle
    gram[columns, rows] = triangle
    return gram, opened[len(rows) :].reshape(width, classes) / cross_weight


def _solved(gram: Float64, cross: Float64, lam: float) -> Float64:
    """(gram + λI)⁻¹ cross, with λ doubled until there is a factor."""
    if not lam > 0:
        raise IntegrityError("the opened Gram sums are those of nobody: their trace is not above 0")
    for _ in range(_MOST_DOUBLINGS):
        factor = _cholesky(gram, lam)
        if factor is not None:
            return _back(factor, _forward(factor, cross))
        lam *= 2
    raise IntegrityError("the opened Gram sums are those of nobody: no ridge makes them a matrix to solve")


def _cholesky(gram: Float64, lam: float) -> Float64 | None:
    """L with LLᵀ = gram + λI, lower triangle; None where a pivot is not positive."""
    left = gram.copy()
    left[np.diag_indices_from(left)] += lam
    for column in range(len(left)):
        pivot = float(left[column, column])
        if not 0 < pivot < math.inf:
            return None
        left[column, column] = math.sqrt(pivot)
        below = left[column + 1 :, column]
        below /= left[column, column]
        left[column + 1 :, column + 1 :] -= below[:, None] * below
    return left


def _forward(factor: Float64, cross: Float64) -> Float64:
    """L⁻¹ cross."""
    solved = cross.copy()
    for row in range(len(factor)):
        solved[row] /= factor[row, row]
        solved[row + 1 :] -= factor[row + 1 :, row, None] * solved[row]
    return solved


def _back(factor: Float64, cross: Float64) -> Float64:
    """L⁻ᵀ cross; the argument is changed and returned."""
    for row in reversed(range(len(factor))):
        cross[row] /= factor[row, row]
        cross[:row] -= factor[row, :row, None] * cross[row]
    return cross
