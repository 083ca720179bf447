"""Δw in closed form (Eq. 7: w′ = w + Δw): ridge regression of what the model still gets wrong.

With Z̃ (n, h + 1) the inputs of the last linear layer beside a column of ones, and residuals
R = onehot(y) − softmax(Z̃ wᵀ),

    Δw = argmin ‖Z̃ Δwᵀ − s·R‖² + λ‖Δw‖² = s · Rᵀ Z̃ (Z̃ᵀZ̃ + λI)⁻¹.

Residuals are probabilities, in [−1, 1], but Δw moves logits. The scale s stands for the inverse of
the softmax's curvature p(1 − p): 2 can never overshoot (Böhning 1992), a model that is mostly sure
needs more. λ and s are those with the lowest log-loss on rows held out of the solve, provided that
it improves by more than its standard error; otherwise Δw is exactly zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

MIN_EXAMPLES = 20
FOLDS = 5
ALL_FOLDS_BELOW = 1000  # a single fifth of fewer rows says too little: there, every row is held out once
RELATIVE_RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # times the mean eigenvalue of Z̃ᵀZ̃
STEP_SCALES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
BLOCK_ROWS = 8192


@dataclass(frozen=True, kw_only=True, eq=False)
class Adaptation:
    """What is added to the last linear layer at one site.

    Attributes:
        weight_delta: (classes, h), zeros where adapting does not help.
        bias_delta: (classes,).
        ridge_lambda: the λ of the solve; None where Δw is zero.
        step_scale: the s of the solve; None where Δw is zero.
        holdout_log_loss_before: mean over held-out rows without Δw; None where none were held out.
        holdout_log_loss_after: the same rows under the Δw of the other rows; never above `before`.
    """

    weight_delta: Float32
    bias_delta: Float32
    ridge_lambda: float | None
    step_scale: float | None
    holdout_log_loss_before: float | None
    holdout_log_loss_after: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Moments:
    """The sums over rows that a solve needs: Z̃ᵀZ̃ and RᵀZ̃."""

    gram: Float64
    cross: Float64

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(gram=self.gram - other.gram, cross=self.cross - other.cross)

    @property
    def mean_eigenvalue(self) -> float:
        return float(np.trace(self.gram)) / len(self.gram)


def fit_adaptation(
    weight: Float32, bias: Float32, inputs: Float32, labels: NDArray[np.int64], *, seed: int
) -> Adaptation:
    """Fits Δw of one site; the arguments are left as they are.

    Args:
        weight: last linear layer of the global model, (classes, h).
        bias: (classes,).
        inputs: what that layer is given for the site's training rows, (n, h).
        labels: (n,), each in 0 … classes - 1.
        seed: draws the held-out rows, a stratified fifth; below 1,000 rows five fifths in turn.

    Returns:
        Δw fitted to all rows with the chosen λ and s; zero for fewer than 20 rows, for rows of one
        class, and where no λ and s improve the held-out log-loss by more than its standard error.

    Raises:
        BadDataError: shapes do not fit, a label is not a class, or a number is not finite.
    """
    _check(weight, bias, inputs, labels)
    if len(labels) < MIN_EXAMPLES or len(np.unique(labels)) < 2:
        return _unchanged(weight, None)
    logits = (inputs @ weight.T + bias).astype(np.float64)
    residuals = _residuals(logits, labels)
    total = _moments(inputs, residuals)

    folds = _stratified_folds(labels, seed)
    before, changes = [], []
    for fold in range(FOLDS if len(labels) < ALL_FOLDS_BELOW else 1):
        held = folds == fold
        fitted = total - _moments(inputs[held], residuals[held])
        before.append(_log_losses(logits[held], labels[held]))
        changes.append(_changes(fitted, inputs[held], logits[held], labels[held]) - before[-1])

    holdout_before = float(np.concatenate(before).mean())
    change = np.concatenate(changes, axis=2)
    standard_error = change.std(axis=2, ddof=1) / np.sqrt(change.shape[2])
    pessimistic = change.mean(axis=2) + standard_error
    row, column = np.unravel_index(pessimistic.argmin(), pessimistic.shape)
    if pessimistic[row, column] >= 0:
        return _unchanged(weight, holdout_before)

    ridge, scale = RELATIVE_RIDGES[row] * total.mean_eigenvalue, STEP_SCALES[column]
    penalised = total.gram + ridge * np.eye(len(total.gram))
    delta = scale * np.linalg.solve(penalised, total.cross.T).T
    return Adaptation(
        weight_delta=delta[:, :-1].astype(np.float32),
        bias_delta=delta[:, -1].astype(np.float32),
        ridge_lambda=ridge,
        step_scale=scale,
        holdout_log_loss_before=holdout_before,
        holdout_log_loss_after=holdout_before + float(change[row, column].mean()),
    )


def _changes(fitted: _Moments, inputs: Float32, logits: Float64, labels: NDArray[np.int64]) -> Float64:
    """Log-loss of held-out rows under every λ and s, (ridges, scales, rows).

    One eigendecomposition Z̃ᵀZ̃ = QEQᵀ serves every λ: (Z̃ᵀZ̃ + λI)⁻¹ = Q(E + λ)⁻¹Qᵀ.
    """
    eigenvalues, vectors = np.linalg.eigh(fitted.gram)
    rotated_inputs = _with_ones(inputs) @ vectors
    rotated_cross = (fitted.cross @ vectors).T
    losses = np.empty((len(RELATIVE_RIDGES), len(STEP_SCALES), len(labels)))
    for row, relative in enumerate(RELATIVE_RIDGES):
        direction = rotated_inputs / (eigenvalues + relative * fitted.mean_eigenvalue) @ rotated_cross
        for column, scale in enumerate(STEP_SCALES):
            losses[row, column] = _log_losses(logits + scale * direction, labels)
    return losses


def _moments(inputs: Float32, residuals: Float64) -> _Moments:
    width = inputs.shape[1] + 1
    gram, cross = np.zeros((width, width)), np.zeros((residuals.shape[1], width))
    for start in range(0, len(inputs), BLOCK_ROWS):
        block = _with_ones(inputs[start : start + BLOCK_ROWS])
        gram += block.T @ block
        cross += residuals[start : start + BLOCK_ROWS].T @ block
    return _Moments(gram=gram, cross=cross)


def _with_ones(inputs: Float32) -> Float64:
    return np.concatenate([inputs.astype(np.float64), np.ones((len(inputs), 1))], axis=1)


def _residuals(logits: Float64, labels: NDArray[np.int64]) -> Float64:
    """onehot(y) − softmax(logits), (n, classes)."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    residuals: Float64 = -exponentials / exponentials.sum(axis=1, keepdims=True)
    residuals[np.arange(len(labels)), labels] += 1
    return residuals


def _log_losses(logits: Float64, labels: NDArray[np.int64]) -> Float64:
    """-ln p(true class) of every row, (n,)."""
    scores = logits - logits.max(axis=1, keepdims=True)
    losses: Float64 = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]
    return losses


def _stratified_folds(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Fold of every row: rows in random order, sorted by class, are dealt out in turn."""
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    dealt = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[dealt] = np.arange(len(labels)) % FOLDS
    return folds


def _unchanged(weight: Float32, holdout_log_loss: float | None) -> Adaptation:
    return Adaptation(
        weight_delta=np.zeros(weight.shape, np.float32),
        bias_delta=np.zeros(len(weight), np.float32),
        ridge_lambda=None,
        step_scale=None,
        holdout_log_loss_before=holdout_log_loss,
        holdout_log_loss_after=holdout_log_loss,
    )


def _check(weight: Float32, bias: Float32, inputs: Float32, labels: NDArray[np.int64]) -> None:
    classes, width = weight.shape
    if bias.shape != (classes,) or inputs.shape != (len(labels), width):
        raise BadDataError(
            f"inputs {inputs.shape}, {len(labels)} labels and a bias {bias.shape} do not fit "
            f"a last layer of shape {weight.shape}"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise BadDataError(f"labels lie in {labels.min()}…{labels.max()}: they must lie in 0…{classes - 1}")
    for name, array in (("a weight", weight), ("a bias", bias), ("an input", inputs)):
        if not np.isfinite(array).all():
            raise BadDataError(f"{name} of the last layer is not a finite number: it cannot be adapted")
