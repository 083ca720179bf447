"""How much of the global model a site keeps, and how firmly: chosen on rows held out of the solve.

A candidate is a share α of the global model and a ridge λ. Of those whose log-loss on held-out rows is
within one standard error of the best, the strongest ridge and then the smallest share are taken
(Breiman et al. 1984, section 3.4.3), and only those count that improve on the global model by more than
one and a half standard errors of the improvement, two where they give a part of it up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.training.adaptation.ridge_path import Rows, log_losses, ridge_path

Float64 = NDArray[np.float64]

FOLDS = 5
ALL_FOLDS_BELOW = 1000
"""A single fifth of fewer rows says too little: there, every row is held out once."""
RELATIVE_RIDGES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Times the mean eigenvalue of Z̃ᵀZ̃."""
WHOLE = 1.0
SMALLER_SHARES = (0.0, 0.5)
"""Tried first: the whole model only where no smaller share improves on it. The site's rows were among
those that it was trained on. Held out of the solve, it knows them all the same, and looks better on them
than on fresh rows."""
MARGINS = {0.0: 2.0, 0.5: 2.0, WHOLE: 1.5}
"""Standard errors by which a share must improve: giving up what all sites learnt takes more than adding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """What the held-out rows say.

    Attributes:
        share: α of the global model that the solve starts from; None where nothing helps.
        ridges: relative, in turn, up to the one chosen; empty where nothing helps.
        log_loss_before: mean over held-out rows of the global model.
        log_loss_after: the same rows under the chosen solve of the other rows; never above `before`.
    """

    share: float | None
    ridges: tuple[float, ...]
    log_loss_before: float
    log_loss_after: float


def choose(inputs: Float64, logits: Float64, labels: NDArray[np.int64], *, seed: int) -> Choice:
    """Chooses α and λ.

    Args:
        inputs: Z̃, (n, h + 1).
        logits: of the global model, (n, classes).
        labels: (n,).
        seed: draws the held-out rows, a stratified fifth; below 1,000 rows five fifths in turn.
    """
    before = log_losses(logits, labels)
    folds = stratified_folds(labels, seed)
    held_out = [folds == fold for fold in range(FOLDS if len(labels) < ALL_FOLDS_BELOW else 1)]
    log_loss = float(np.concatenate([before[held] for held in held_out]).mean())
    for shares in (SMALLER_SHARES, (WHOLE,)):
        change = np.concatenate(
            [_losses(inputs, logits, labels, held, shares) - before[held] for held in held_out], axis=2
        )
        taken = _steadiest(change, shares)
        if taken is not None:
            row, column = taken
            return Choice(
                share=shares[row],
                ridges=RELATIVE_RIDGES[: column + 1],
                log_loss_before=log_loss,
                log_loss_after=log_loss + float(change[row, column].mean()),
            )
    return Choice(share=None, ridges=(), log_loss_before=log_loss, log_loss_after=log_loss)


def _steadiest(change: Float64, shares: tuple[float, ...]) -> tuple[int, int] | None:
    """Places of the share and the ridge that are taken; None where none is better than the global model.

    Args:
        change: of the log-loss of held-out rows, (shares, ridges, rows).
        shares: what the first axis stands for.
    """
    mean, error = change.mean(axis=2), _standard_error(change)
    better = mean + np.array([[MARGINS[share]] for share in shares]) * error < 0
    if not better.any():
        return None
    best = np.unravel_index(np.where(better, mean + error, np.inf).argmin(), mean.shape)
    behind = change - change[best]
    eligible = better & (behind.mean(axis=2) <= _standard_error(behind))
    column = int(eligible.any(axis=0).argmax())
    return int(eligible[:, column].argmax()), column


def eigenbasis(gram: Float64) -> tuple[Float64, Float64]:
    """Eigenvalues (h + 1,) of Z̃ᵀZ̃, none below zero, and eigenvectors (h + 1, h + 1)."""
    values, vectors = np.linalg.eigh(gram)
    return np.maximum(values, 0), vectors


def _losses(
    inputs: Float64,
    logits: Float64,
    labels: NDArray[np.int64],
    held: NDArray[np.bool_],
    shares: tuple[float, ...],
) -> Float64:
    """Log-loss of the held-out rows under the solves of the others, (shares, ridges, rows)."""
    eigenvalues, vectors = eigenbasis(inputs[~held].T @ inputs[~held])
    ridges = [relative * float(eigenvalues.mean()) for relative in RELATIVE_RIDGES]
    fitted, others = inputs[~held] @ vectors, inputs[held] @ vectors
    losses = np.empty((len(shares), len(ridges), len(others)))
    for row, share in enumerate(shares):
        rows = Rows(
            inputs=fitted, eigenvalues=eigenvalues, labels=labels[~held], logits=share * logits[~held]
        )
        for column, delta in enumerate(ridge_path(rows, ridges)):
            losses[row, column] = log_losses(share * logits[held] + others @ delta, labels[held])
    return losses


def stratified_folds(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Fold of every row: rows in random order, sorted by class, are dealt out in turn."""
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    dealt = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[dealt] = np.arange(len(labels)) % FOLDS
    return folds


def _standard_error(values: Float64) -> Float64:
    error: Float64 = values.std(axis=2, ddof=1) / np.sqrt(values.shape[2])
    return error
