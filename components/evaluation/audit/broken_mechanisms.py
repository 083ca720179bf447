"""Mechanisms that do not keep what the charter says: an audit that cannot find them says nothing.

Each is a site's work under something else than the charter, through the product's own modules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from components.agreement.charter import Charter
from components.agreement.released_sum import GRADIENTS, released_sum, shapes_of
from components.evaluation.audit.site_work import Asked, Mechanism, Vector, as_agreed, noise_source
from components.evaluation.audit.views import DIFFERENCES, SHARED, UNCLIPPED

NOISE_OFF: Final = 4
LEAST_NOISE: Final = 2.0**-10
"""Smallest noise multiplier that a mechanism takes: a share of some hundred steps of 2^-20 clipping norms."""


def quiet_noise(asked: Asked) -> Vector:
    """Noise off by a factor: the site works under a charter with a quarter of the noise."""
    return as_agreed(replace(asked, charter=_with_noise(asked.charter, 1 / NOISE_OFF)))


def without_clipping(asked: Asked) -> Vector:
    """Clipping skipped: the norm is longer than any gradient, the noise as agreed.

    The site works under a charter with a norm c times as long and σ / c, and multiplies the integers by c.
    Class sums are left alone: features have one norm, and clipping does nothing to them.
    """
    number, shapes = asked.ticket.round_number, shapes_of(asked.model)
    released = released_sum(asked.charter, number, shapes)
    if released.of != GRADIENTS:
        return as_agreed(asked)
    features = asked.model["output.weight"].shape[1]
    times = 1 << math.ceil(math.log2(max(1.0, math.sqrt(2 * (features + 1)) / released.clipping_norm)))
    charter = replace(
        _with_noise(asked.charter, 1 / times),
        clipping_norm=times * asked.charter.clipping_norm,
        largest_value=times * asked.charter.clipping_norm,
    )
    vector = as_agreed(replace(asked, charter=charter))
    vector *= times
    return vector


def one_seed(asked: Asked) -> Vector:
    """Noise seed reused: all sites draw a round's noise from one seed."""
    source = noise_source(asked.run_secret, asked.ticket.round_number)
    return as_agreed(replace(asked, random_bytes=source))


def same_noise_again(asked: Asked) -> Vector:
    """Noise seed reused: each site draws every round's noise from one seed of its own."""
    return as_agreed(replace(asked, random_bytes=noise_source(asked.run_secret, asked.place)))


def missing_share(asked: Asked) -> Vector:
    """One site's share missing: the first site's noise is the least that the mechanism takes."""
    return as_agreed(asked if asked.place else replace(asked, charter=_with_noise(asked.charter, 0.0)))


def _with_noise(charter: Charter, factor: float) -> Charter:
    """The charter with other noise in all rounds, at least what a mechanism takes."""
    terms = charter.privacy
    if terms is None:
        return charter
    noise = tuple(max(LEAST_NOISE, factor * sigma) for sigma in terms.noise_multipliers)
    return replace(charter, privacy=replace(terms, noise_multipliers=noise))


BROKEN: Final[Sequence[Mechanism]] = (
    Mechanism(
        name="noise off by 4",
        says=f"every site draws noise of 1/{NOISE_OFF} of the agreed deviation",
        work=quiet_noise,
        epsilon=4.0,
        runs=5,
    ),
    Mechanism(
        name="clipping skipped",
        says="no site clips a gradient",
        work=without_clipping,
        epsilon=4.0,
        runs=5,
        needs=UNCLIPPED,
    ),
    Mechanism(
        name="one seed at all sites",
        says="all sites draw a round's noise from one seed, which the colluding site knows",
        work=one_seed,
        epsilon=4.0,
        runs=5,
        needs=SHARED,
    ),
    Mechanism(
        name="one seed in all rounds",
        says="each site draws the noise of every round from one seed of its own",
        work=same_noise_again,
        epsilon=4.0,
        runs=5,
        needs=DIFFERENCES,
    ),
    Mechanism(
        name="one share missing",
        says="one honest site of those that the claim counts on adds no noise to speak of",
        work=missing_share,
        epsilon=8.0,
        runs=30,
    ),
)
