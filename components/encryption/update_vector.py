"""What is sealed of an update, under each protection, and what the opened sum stands for.

Under `none` and `he` it is the float64 vector [n·Δw, n]. Under the others it is the fixed-point form
of the same, integers whose sum is exact. In all of them Δw is first scaled down to the charter's
bounds, which keeps its direction. Where sites share noise it is the sum of clipped contributions and
the count, as integers with the site's share of the noise in them.

Confusion counts are whole numbers as they are, and under shared noise a sum of contributions as any other.
"""

from __future__ import annotations

import os
from typing import cast

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.agreement.protections import MASKED, SMC
from components.agreement.released_sum import Shapes, released_sum
from components.agreement.ticket import METRICS, UPDATE
from components.encryption import ring
from components.encryption.bfv import packing
from components.encryption.fixed_point import FixedPoint
from components.errors import BadDataError
from components.privacy.exact_uniform import RandomBytes
from components.privacy.mechanism import decoded, noisy_integers
from components.privacy.round_noise import round_mechanism, shares_noise


def largest_sum(protection: str, values_per_slot: int) -> int:
    """Largest magnitude that a coordinate of a sum may have under a protection."""
    return ring.LARGEST_SUM if protection in {MASKED, SMC} else packing.largest_sum(values_per_slot)


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
        largest_sum=largest_sum(charter.protection, charter.values_per_slot),
    )


def to_vector(
    charter: Charter,
    values: NDArray[np.float64],
    num_examples: int,
    *,
    round_number: int,
    shapes: Shapes,
    purpose: str = UPDATE,
    random_bytes: RandomBytes = os.urandom,
) -> NDArray[np.generic]:
    """The vector a site commits to and seals; where sites share noise it is drawn here, once a ticket.

    Args:
        charter: with protection and bounds.
        values: Δw, or the sum of clipped contributions, or counts; float64, shape (d,).
        num_examples: n, training rows behind it, or 1 where sites count alike; test rows behind counts.
        round_number: the ticket's, which decides the noise.
        shapes: of the model's tensors.
        purpose: of the ticket.
        random_bytes: of the noise: the operating system's, but in a rehearsal.

    Returns:
        Integers, shape (d + 1,), where sites share noise and of counts; integers, shape (d + 2,), under
        other protections that seal integers; float64, shape (d + 1,), otherwise.

    Raises:
        BadDataError: more examples than the charter admits, or a value is not finite.
        RefusedError: the round is outside the charter's schedule of noise.
    """
    points = fixed_point(charter)
    if shares_noise(charter):
        if num_examples:
            points.require_count(num_examples)
        mechanism = round_mechanism(charter, round_number, shapes, purpose)
        return noisy_integers(values, num_examples, mechanism, random_bytes)
    if purpose == METRICS:
        return _whole_counts(charter, values, num_examples)
    if charter.traits.integers:
        return points.encode(values, num_examples)
    points.require_count(num_examples)
    return np.append(num_examples * points.clip(values), float(num_examples))


def vector_length(charter: Charter, round_number: int, shapes: Shapes, purpose: str = UPDATE) -> int:
    """Length of the vector that every site seals under a ticket, for a model of these shapes."""
    values = released_sum(charter, round_number, shapes, purpose).dimensions
    if charter.traits.integers and not shares_noise(charter) and purpose != METRICS:
        return fixed_point(charter).length(values)
    return values + 1


def from_sum(
    charter: Charter,
    total: NDArray[np.generic],
    *,
    round_number: int,
    shapes: Shapes,
    purpose: str = UPDATE,
) -> NDArray[np.float64]:
    """[Σ n·Δw, Σ n], or the contributions' sum and the noisy count; float64, shape (d + 1,)."""
    if shares_noise(charter):
        opened = total.astype(np.int64, copy=False)
        return np.append(*decoded(opened, round_mechanism(charter, round_number, shapes, purpose)))
    if charter.traits.integers and purpose != METRICS:
        return fixed_point(charter).decode(cast(NDArray[np.int64], total))
    return total.astype(np.float64, copy=False)


def _whole_counts(charter: Charter, values: NDArray[np.float64], num_examples: int) -> NDArray[np.generic]:
    """Counts and rows as they are, if no sum of all sites' can leave its range; shape (d + 1,)."""
    most = largest_sum(charter.protection, charter.values_per_slot)
    if num_examples > most // len(charter.sites):
        text = f"there are more than {most // len(charter.sites)} test rows, the most that a site can count"
        raise BadDataError(text, disclosed=text)
    counts = np.append(values, float(num_examples))
    return counts.astype(np.int32 if most <= np.iinfo(np.int32).max else np.int64)
