"""What is sealed of an update, under each protection, and what the opened sum stands for.

Under `none` and `he` it is the float64 vector [n·Δw, n]. Under `sealed` it is the fixed-point form
of the same, integers whose sum is exact. In all of them Δw is first scaled down to the charter's
bounds, which keeps its direction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.encryption.fixed_point import FixedPoint

SEALED = "sealed"


def fixed_point(charter: Charter) -> FixedPoint:
    """The fixed point of a charter.

    Raises:
        UsageError: its bounds cannot be met with this many sites and values a slot.
    """
    return FixedPoint(
        sites=len(charter.sites),
        clipping_norm=charter.clipping_norm,
        largest_value=charter.largest_value,
        max_examples=charter.max_examples,
        values_per_slot=charter.values_per_slot,
    )


def to_vector(charter: Charter, values: NDArray[np.float64], num_examples: int) -> NDArray[np.generic]:
    """The vector a site commits to and seals.

    Args:
        charter: with protection and bounds.
        values: Δw, float64, shape (d,).
        num_examples: n, training rows behind it.

    Returns:
        Integers, shape (d + 2,), under `sealed`; float64, shape (d + 1,), otherwise.

    Raises:
        BadDataError: more examples than the charter admits, or a value is not finite.
    """
    points = fixed_point(charter)
    if charter.protection == SEALED:
        return points.encode(values, num_examples)
    points.require_count(num_examples)
    return np.append(num_examples * points.clip(values), float(num_examples))


def vector_length(charter: Charter, values: int) -> int:
    """Length of the vector for an update of `values` numbers."""
    return fixed_point(charter).length(values) if charter.protection == SEALED else values + 1


def from_sum(charter: Charter, total: NDArray[np.generic]) -> NDArray[np.float64]:
    """[Σ n·Δw, Σ n], float64, shape (d + 1,), from an opened sum."""
    if charter.protection == SEALED:
        return fixed_point(charter).decode(total.astype(np.int64, copy=False))
    return total.astype(np.float64, copy=False)
