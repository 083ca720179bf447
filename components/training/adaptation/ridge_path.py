"""The solve of Eq. 7, iterated: what a site adds to a last layer, for ridges from strong to weak.

With Z̃ (n, h + 1) the inputs of the layer beside a column of ones, logits L and residuals
R = onehot(y) − softmax(L), one step of Eq. 7 is the ridge regression of the residuals,

    Δ = s · RᵀZ̃ (Z̃ᵀZ̃ + λI)⁻¹,  s = 2,

the minimum of a parabola that lies nowhere below the log-loss with the penalty λ‖Δ‖²/2s (Böhning and
Lindsay 1988; Böhning 1992: the softmax's curvature is at most ½). Repeating it with the residuals that
are left converges to the minimum, slowly: a softmax that is mostly sure is far less curved than the
bound. So the step is the preconditioner of nonlinear conjugate gradients (Polak and Ribière 1969), with
the true curvature along each direction. In the basis of the eigenvectors of Z̃ᵀZ̃ the inverse is a
division, for every λ, and each λ starts where the one before ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

STEP_SCALE = 2.0
STEPS = 3
"""Of each ridge. More brings nothing: the ridges are close, and the next goes on from there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of a site in the basis of the eigenvectors of Z̃ᵀZ̃.

    Attributes:
        inputs: (n, h + 1), Z̃ times the eigenvectors.
        eigenvalues: (h + 1,), of Z̃ᵀZ̃ of these rows, none below zero.
        labels: (n,), each in 0 … classes - 1.
        logits: (n, classes), where the path starts.
    """

    inputs: Float64
    eigenvalues: Float64
    labels: NDArray[np.int64]
    logits: Float64


@dataclass(frozen=True, kw_only=True, eq=False)
class _Point:
    """A place on the path: Δ transposed, in the eigenbasis, and what the rows say there."""

    delta: Float64
    logits: Float64
    probabilities: Float64
    loss: float


def ridge_path(rows: Rows, ridges: Sequence[float]) -> Iterator[Float64]:
    """Δ transposed, (h + 1, classes) in the eigenbasis, after the steps of each ridge.

    Args:
        rows: what is fitted.
        ridges: every λ in turn, positive, from the largest.
    """
    point = _point(rows, np.zeros((rows.inputs.shape[1], rows.logits.shape[1])), rows.logits)
    for ridge in ridges:
        point = _descended(rows, ridge, point)
        yield point.delta


def _descended(rows: Rows, ridge: float, point: _Point) -> _Point:
    inverse = (STEP_SCALE / (rows.eigenvalues + ridge))[:, None]
    penalty = ridge / STEP_SCALE
    earlier: tuple[Float64, float, Float64] | None = None
    for _ in range(STEPS):
        residuals = -point.probabilities
        residuals[np.arange(len(rows.labels)), rows.labels] += 1
        downhill = rows.inputs.T @ residuals - penalty * point.delta
        step = inverse * downhill
        size = float((downhill * step).sum())
        if size <= 1e-12 * len(rows.labels):
            break
        direction = step
        if earlier is not None:
            before, size_before, last = earlier
            kept = float(((downhill - before) * step).sum()) / size_before
            conjugate = step + max(0.0, kept) * last
            direction = conjugate if float((downhill * conjugate).sum()) > 0 else step
        earlier = downhill, size, direction
        point = _moved(rows, penalty, point, direction, float((downhill * direction).sum()))
    return point


def _moved(rows: Rows, penalty: float, point: _Point, direction: Float64, slope: float) -> _Point:
    """The point along a direction at which its parabola is lowest.

    That of the true curvature where the penalised log-loss falls with it, else that of the bound, with
    which it always does.
    """
    along = rows.inputs @ direction
    weighted = point.probabilities * along
    penalised = penalty * float((direction**2).sum())
    curvature = float((weighted * along).sum() - (weighted.sum(axis=1) ** 2).sum())
    bound = float((rows.eigenvalues[:, None] * direction**2).sum()) / STEP_SCALE
    here = point.loss + penalty / 2 * float((point.delta**2).sum())
    for curved in (curvature, bound):
        length = slope / (curved + penalised)
        found = _point(rows, point.delta + length * direction, point.logits + length * along)
        if found.loss + penalty / 2 * float((found.delta**2).sum()) <= here:
            return found
    return point


def _point(rows: Rows, delta: Float64, logits: Float64) -> _Point:
    scores = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(scores)
    totals = probabilities.sum(axis=1, keepdims=True)
    loss = float(np.log(totals).sum() - scores[np.arange(len(rows.labels)), rows.labels].sum())
    return _Point(delta=delta, logits=logits, probabilities=probabilities / totals, loss=loss)


def log_losses(logits: Float64, labels: NDArray[np.int64]) -> Float64:
    """-ln p(true class) of every row, (n,)."""
    scores = logits - logits.max(axis=1, keepdims=True)
    losses: Float64 = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]
    return losses
