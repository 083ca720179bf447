"""What is sealed of an update, under each protection, and what the opened sum stands for.

Under `none` and `he` it is the float64 vector [n·Δw, n]. Under `sealed` it is the fixed-point form
of the same, integers whose sum is exact. In all of them Δw is first scaled down to the charter's
bounds, which keeps its direction. Under `fedsgd` it is the sum of clipped gradients and the count,
as integers with the site's share of the noise in them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.encryption.fixed_point import FixedPoint
from components.privacy.mechanism import decoded, noisy_integers
from components.privacy.round_noise import gradient_sums, round_mechanism

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


def to_vector(
    charter: Charter, values: NDArray[np.float64], num_examples: int, *, round_number: int
) -> NDArray[np.generic]:
    """The vector a site commits to and seals; under `fedsgd` its noise is drawn here, once a ticket.

    Args:
        charter: with protection and bounds.
        values: Δw, or the sum of clipped gradients under `fedsgd`; float64, shape (d,).
        num_examples: n, training rows behind it.
        round_number: the ticket's, which decides the noise.

    Returns:
        Integers, shape (d + 2,), under `sealed`, (d + 1,) under `fedsgd`; float64, shape (d + 1,), otherwise.

    Raises:
        BadDataError: more examples than the charter admits, or a value is not finite.
        RefusedError: the round is outside the charter's schedule of noise.
    """
    points = fixed_point(charter)
    if gradient_sums(charter):
        points.require_count(num_examples)
        return noisy_integers(values, num_examples, round_mechanism(charter, round_number, values.size))
    if charter.protection == SEALED:
        return points.encode(values, num_examples)
    points.require_count(num_examples)
    return np.append(num_examples * points.clip(values), float(num_examples))


def vector_length(charter: Charter, values: int) -> int:
    """Length of the vector for an update of `values` numbers."""
    if charter.protection == SEALED and not gradient_sums(charter):
        return fixed_point(charter).length(values)
    return values + 1


def from_sum(charter: Charter, total: NDArray[np.generic]) -> NDArray[np.float64]:
    """[Σ n·Δw, Σ n], or the gradients' sum and the noisy count; float64, shape (d + 1,)."""
    if gradient_sums(charter):
        opened = total.astype(np.int64, copy=False)
        # Scale and weight of the count are those of all rounds.
        first = charter.privacy.first_round if charter.privacy else 0
        return np.append(*decoded(opened, round_mechanism(charter, first, opened.size - 1)))
    if charter.protection == SEALED:
        return fixed_point(charter).decode(total.astype(np.int64, copy=False))
    return total.astype(np.float64, copy=False)
