"""From opened Gram sums to a head: the solve behind `analytic`, see `gram_sums`.

An eigendecomposition is a library's and differs between machines in its last bits: who recomputes a head
compares it within a tolerance and not by its digest.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from components.errors import IntegrityError, UsageError

Float64 = NDArray[np.float64]

RELATIVE_RIDGE = 1e-2
NOISE_RIDGE = 0.25


def ridge_head(
    opened: Float64,
    *,
    classes: int,
    hidden_weight: NDArray[np.float32],
    cross_weight: float = 1.0,
    lam: float | None = None,
    noise_deviation: float = 0.0,
    feature_norm: float,
    logit_scale: float = 20.0,
) -> dict[str, NDArray[np.float32]]:
    """Solves the opened sums for a head; nothing but what was opened is used.

    Noise can leave the Gram matrix with negative eigenvalues. They are set to zero before λ is added: the
    nearest matrix, in Frobenius norm, that sums of outer products can have (Higham 1988).

    Args:
        opened: sum over sites, see `gram_sums`.
        classes: number of classes.
        hidden_weight: W, as the sites had it.
        cross_weight: w, as the sites had it.
        lam: λ, above 0; None for `default_lam`.
        noise_deviation: σ of the noise on every coordinate of `opened`, 0 without.
        feature_norm: norm of a row of features; √d as `augment` stores them.
        logit_scale: the solve gives scores from 0 to 1, and softmax is told this multiple of them.

    Returns:
        A linear head without hidden units, else one with a skip connection. Biases are zero.

    Raises:
        UsageError: λ is out of range.
        IntegrityError: the opened sums are not finite or of another length.
    """
    gram, cross = unpacked(opened, classes=classes, hidden_weight=hidden_weight, cross_weight=cross_weight)
    ridge = default_lam(gram, noise_deviation) if lam is None else lam
    if not (math.isfinite(ridge) and ridge > 0):
        raise UsageError(f"lam must be a finite number above 0, got {ridge!r}: opened sums of nobody?")
    eigenvalues, vectors = np.linalg.eigh(gram)
    solved = vectors @ ((vectors.T @ cross) / (np.maximum(eigenvalues, 0)[:, None] + ridge))

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
    """λ = trace⁺/(100·m) + σ·√(2m)/4, for an (m, m) Gram matrix.

    The first term is a hundredth of the mean eigenvalue. The second is an eighth of the width 2σ√(2m) of
    the semicircle that noise of deviation σ spreads eigenvalues over (Wigner 1955), half of which lies
    below zero and is cut off: below it, the solve would divide by noise.
    """
    width = len(gram)
    return RELATIVE_RIDGE * max(
        0.0, float(np.trace(gram))
    ) / width + NOISE_RIDGE * noise_deviation * math.sqrt(2 * width)


def unpacked(
    opened: Float64, *, classes: int, hidden_weight: NDArray[np.float32], cross_weight: float
) -> tuple[Float64, Float64]:
    """The symmetric (m, m) and the (m, classes) matrix of opened sums.

    Raises:
        IntegrityError: they are not finite or of another length.
    """
    width = sum(hidden_weight.shape)
    wanted = width * (width + 1) // 2 + width * classes
    if opened.shape != (wanted,) or not np.all(np.isfinite(opened)):
        raise IntegrityError(f"opened Gram sums must be {wanted} finite values, got shape {opened.shape}")
    rows, columns = np.triu_indices(width)
    triangle = opened[: len(rows)] / np.where(rows == columns, 1.0, math.sqrt(2))
    gram = np.zeros((width, width))
    gram[rows, columns] = triangle
    gram[columns, rows] = triangle
    return gram, opened[len(rows) :].reshape(width, classes) / cross_weight
