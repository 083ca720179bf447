"""Likelihood-ratio membership inference with shadow models, offline.

Carlini, Chien, Nasr, Song, Terzis and Tramèr 2022, "Membership Inference Attacks From First Principles",
IEEE S&P, Algorithm 1 in its offline variant: an attacker who can train models like the target asks how
unusual the target's confidence in a row is among models that never saw the row.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.errors import UsageError

POOLED_BELOW: Final = 64
"""Shadow models from which on a row's own variance is better than all rows', as the paper has it."""
_TINY: Final = 1e-12


def offline_scores(
    target: NDArray[np.float64],
    shadows: NDArray[np.float64],
    shadow_included: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """How far the target's confidence in each row stands above that of models without the row.

    (φ(x) − μ_out(x)) / σ_out, the paper's 1 − Pr[Z > φ(x)] before the normal distribution function, which
    keeps the order. φ is the logit-scaled confidence of `canaries.scaled_confidence`, which is nearly
    normal over models. With fewer than `POOLED_BELOW` shadows without a row σ_out is pooled over all rows.

    Args:
        target: confidence of the attacked model in the true class of each row, (n,).
        shadows: the same of s shadow models, (s, n).
        shadow_included: (s, n), whether a shadow model was trained on a row.

    Returns:
        (n,), higher where a row was rather in the target's training data.

    Raises:
        UsageError: shapes differ, a row was in every shadow, or no row was out of two.
    """
    if shadows.shape != shadow_included.shape or shadows.shape[1:] != target.shape or not len(shadows):
        raise UsageError(
            f"shadows must be (models, {len(target)}) like what they were trained on, "
            f"got {shadows.shape} and {shadow_included.shape}"
        )
    without = ~shadow_included
    counts = without.sum(axis=0)
    if not counts.all():
        raise UsageError(
            f"{int((counts == 0).sum())} rows were in every shadow model: an offline attack needs "
            "one that never saw the row; train more shadows or leave the rows out"
        )
    means = np.where(without, shadows, 0.0).sum(axis=0) / counts
    squares = (np.where(without, shadows - means, 0.0) ** 2).sum(axis=0)
    freedom = int((counts - 1).sum())
    if freedom < 1:
        raise UsageError("no row was out of two shadow models: there is no variance to compare with")
    variances = np.full(len(target), squares.sum() / freedom)
    many = counts >= POOLED_BELOW
    variances[many] = squares[many] / (counts[many] - 1)
    scores: NDArray[np.float64] = (target - means) / np.sqrt(np.maximum(variances, _TINY))
    return scores
