"""What a site of an audited round does: as the charter says, through the modules that `train` calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.agreement.released_sum import shapes_of
from components.agreement.ticket import Ticket
from components.encryption.update_vector import to_vector
from components.privacy.exact_uniform import RandomBytes
from components.training.features import Examples
from components.training.heads import Head
from components.training.local_training.contributions import contribution

Vector = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One site's work in one round.

    Attributes:
        charter: of the federation.
        ticket: of the round.
        site: who works.
        place: number among the sites, from 0; the honest ones come first.
        model: before the round.
        examples: the site's training rows, none for one that colludes.
        run_secret: a number that a faulty site may take its noise from.
        random_bytes: the source of noise.
    """

    charter: Charter
    ticket: Ticket
    site: str
    place: int
    model: Head
    examples: Examples
    run_secret: int
    random_bytes: RandomBytes


Work = Callable[[Asked], Vector]
"""What a site commits to and seals, integers of shape (d + 1,)."""


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """One mechanism that is audited at one epsilon.

    Attributes:
        name: `intact`, or of the fault.
        says: what the sites do, one line; empty for the intact one.
        work: of every site.
        epsilon: that the charter asks for.
        runs: after which the bounds are looked at, fixed beforehand.
        needs: view without which nobody could see the fault; empty for none.
    """

    name: str
    says: str
    work: Work
    epsilon: float
    runs: int
    needs: str = ""


def as_agreed(asked: Asked) -> Vector:
    """What the charter says: clipped contributions, summed, as integers, with the site's share of noise."""
    values, count = contribution(
        asked.charter, asked.ticket, asked.site, asked.model, asked.examples, device="cpu"
    )
    vector = to_vector(
        asked.charter,
        values,
        count,
        round_number=asked.ticket.round_number,
        shapes=shapes_of(asked.model),
        random_bytes=asked.random_bytes,
    )
    return vector.astype(np.int64, copy=False)


def noise_source(seed: int | None, *where: int) -> RandomBytes:
    """The operating system's randomness; in tests a stream of a seed and of where it is used."""
    if seed is None:
        return os.urandom
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *where]))).bytes
