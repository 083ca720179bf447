"""Δw of one site (Eq. 7: w′ = w + Δw): a ridge regression of what the model still gets wrong, iterated.

The solve starts from α·w, and its penalty draws towards it: with the inputs Z̃ of the last linear layer
beside a column of ones,

    w′ = argmin Σ −ln softmax(Z̃ w′ᵀ)[y] + λ/4 · ‖w′ − α·w‖²,   Δw = w′ − w.

α = 1 trusts the global model, α = 0 is the site's own rows alone: a model that was trained with noise
for differential privacy is worth less than a site's rows. α and λ are chosen on rows held out of the
solve (`held_out_choice`), and w′ is found by repeating the closed form (`ridge_path`). Where nothing
clearly improves the held-out log-loss, Δw is exactly zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError
from components.training.adaptation.held_out_choice import choose, eigenbasis
from components.training.adaptation.ridge_path import STEP_SCALE, Rows, ridge_path

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

MIN_EXAMPLES = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Adaptation:
    """What is added to the last linear layer at one site.

    Attributes:
        weight_delta: (classes, h), zeros where adapting does not help.
        bias_delta: (classes,).
        ridge_lambda: the λ of the solve; None where Δw is zero.
        step_scale: the s of a step of the solve; None where Δw is zero.
        kept_share: the α of the global model that the solve started from; None where Δw is zero.
        holdout_log_loss_before: mean over held-out rows without Δw; None where none were held out.
        holdout_log_loss_after: the same rows under the Δw of the other rows; never above `before`.
    """

    weight_delta: Float32
    bias_delta: Float32
    ridge_lambda: float | None
    step_scale: float | None
    kept_share: float | None
    holdout_log_loss_before: float | None
    holdout_log_loss_after: float | None


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
        Δw fitted to all rows with the chosen α and λ; zero for fewer than 20 rows, for rows of one
        class, and where no α and λ clearly improve the held-out log-loss (`held_out_choice.MARGINS`).

    Raises:
        BadDataError: shapes do not fit, a label is not a class, or a number is not finite.
    """
    _check(weight, bias, inputs, labels)
    if len(labels) < MIN_EXAMPLES or len(np.unique(labels)) < 2:
        return _unchanged(weight, None)
    logits = (inputs @ weight.T + bias).astype(np.float64)
    design = np.concatenate([inputs.astype(np.float64), np.ones((len(inputs), 1))], axis=1)
    choice = choose(design, logits, labels, seed=seed)
    if choice.share is None:
        return _unchanged(weight, choice.log_loss_before)

    eigenvalues, vectors = eigenbasis(design.T @ design)
    ridges = [relative * float(eigenvalues.mean()) for relative in choice.ridges]
    start = choice.share * logits
    rows = Rows(inputs=design @ vectors, eigenvalues=eigenvalues, labels=labels, logits=start)
    *_, rotated = ridge_path(rows, ridges)
    delta = (vectors @ rotated).T
    # Units of a ReLU layer that never fire here: no row tells what their weights are worth.
    seen = np.any(inputs != 0, axis=0)
    return Adaptation(
        weight_delta=(delta[:, :-1] - (1 - choice.share) * weight * seen).astype(np.float32),
        bias_delta=(delta[:, -1] - (1 - choice.share) * bias).astype(np.float32),
        ridge_lambda=ridges[-1],
        step_scale=STEP_SCALE,
        kept_share=choice.share,
        holdout_log_loss_before=choice.log_loss_before,
        holdout_log_loss_after=choice.log_loss_after,
    )


def _unchanged(weight: Float32, holdout_log_loss: float | None) -> Adaptation:
    return Adaptation(
        weight_delta=np.zeros(weight.shape, np.float32),
        bias_delta=np.zeros(len(weight), np.float32),
        ridge_lambda=None,
        step_scale=None,
        kept_share=None,
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
