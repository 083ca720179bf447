"""The warm start: sums of features by class, from which a first model is read off.

Round 1 of a schedule may release, instead of a gradient,

    S = Σᵢ e(yᵢ) ⊗ zᵢ · min(1, C / ‖zᵢ‖₂),   shape (classes, features).

The rows of S point to the class means, and scaled rows are a nearest-mean classifier. That is the first
gradient of a linear head at zero, less what all classes have in common, without a learning rate to find.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError, UsageError
from components.training.features import Examples
from components.training.local_training.clipped_gradients import ROWS_AT_ONCE


def class_sums(
    examples: Examples,
    *,
    classes: int,
    clipping_norm: float,
    units: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Σ of features by class, each example's (or unit's) part clipped to `clipping_norm`.

    Sensitivity: an example stands in one row of S with a norm of at most C, so adding or removing one
    changes S by at most **C** in L2, which is tight. With `units` a unit's rows are summed into its own
    (classes, features) first and that is clipped to C as a whole: C again, per unit.

    Args:
        examples: training rows, any number; a sum over none is zero.
        classes: number of classes.
        clipping_norm: C, above 0. `augment` stores features at norm √d: a C of √d clips nothing.
        units: (n,), equal for rows of one unit; None where every row is a unit of its own.

    Returns:
        float64, (classes · features,), class by class.

    Raises:
        UsageError: C is out of range.
        BadDataError: rows do not fit each other, a label is no class, or a feature is not finite.
    """
    if not (math.isfinite(clipping_norm) and clipping_norm > 0):
        raise UsageError(f"clipping_norm must be a finite number above 0, got {clipping_norm!r}")
    check_rows(examples, classes, units)
    rows = examples.features.astype(np.float64)
    squares = np.einsum("ij,ij->i", rows, rows)
    if units is not None:
        squares = _unit_squares(rows, examples.labels, units)
    lengths = np.sqrt(squares)
    rows *= np.minimum(1, np.divide(clipping_norm, lengths, out=np.ones_like(lengths), where=lengths > 0))[
        :, None
    ]
    sums = np.zeros((classes, rows.shape[1]))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        members = (np.arange(classes)[:, None] == examples.labels[block]).astype(np.float64)
        sums += members @ rows[block]
    return sums.ravel()


def check_rows(examples: Examples, classes: int, units: NDArray[np.int64] | None = None) -> None:
    """Refuses rows that no sum can be formed of.

    Raises:
        BadDataError: rows do not fit each other, a label is no class, or a feature is not finite.
    """
    count = len(examples.labels)
    if len(examples.features) != count or (units is not None and units.shape != (count,)):
        text = "features, labels and privacy units must be equally many"
        raise BadDataError(text, disclosed=text)
    if count and not 0 <= examples.labels.min() <= examples.labels.max() < classes:
        text = f"labels must lie in 0…{classes - 1}"
        raise BadDataError(f"{text}: got {examples.labels.min()}…{examples.labels.max()}", disclosed=text)
    if not np.isfinite(examples.features).all():
        text = "a feature is not a finite number: it cannot be clipped"
        raise BadDataError(text, disclosed=text)


def _unit_squares(
    rows: NDArray[np.float64], labels: NDArray[np.int64], units: NDArray[np.int64]
) -> NDArray[np.float64]:
    """‖a unit's whole contribution‖² for each of its rows, (n,): its classes' sums are orthogonal."""
    pairs = np.stack([units, labels], axis=1)
    order = np.lexsort((labels, units))
    firsts = np.flatnonzero(np.any(np.diff(pairs[order], axis=0, prepend=pairs[order[:1]] - 1), axis=1))
    by_class = np.add.reduceat(rows[order], firsts) if len(rows) else rows
    squares = np.einsum("ij,ij->i", by_class, by_class)
    owners, owner_of_row = np.unique(units, return_inverse=True)
    total = np.zeros(len(owners))
    np.add.at(total, np.searchsorted(owners, units[order[firsts]]), squares)
    squared: NDArray[np.float64] = total[owner_of_row]
    return squared
