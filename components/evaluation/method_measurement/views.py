"""What each party sees of a round, under each method, as the attacks are given it.

| view | fedavg, dp-fl | smc-fl | he-fl | ours |
|---|---|---|---|---|
| aggregator | every site's update | its masked words | its ciphertext | its sealed bytes |
| participant | the sum less its own part | the same | the same | the same, less its share of noise |
| model | the sum of every round, as models tell it | the same | the same | the same |

Updates are what the rehearsal's sites committed to; sealed bytes are made by the protection's own code from
the same vectors. Under `none` participants could read the exchange too: the view of the aggregator is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.agreement.protections import NONE
from components.agreement.released_sum import WEIGHTED_UPDATES
from components.evaluation.attacks.opaque import as_numbers
from components.evaluation.attacks.sighting import Sighting
from components.evaluation.rehearsal.rounds import Rehearsal, Round

Float64 = NDArray[np.float64]
AGGREGATOR, PARTICIPANT, MODEL = "aggregator", "participant", "model"
VIEWS: Final = (AGGREGATOR, PARTICIPANT, MODEL)


@dataclass(frozen=True, kw_only=True)
class Views:
    """Sightings of a trajectory.

    Attributes:
        updates: the aggregator's, by site: of updates in clear, or of sealed bytes.
        rest: the first site's: what is left of every sum when its own part is taken off.
        sums: of everybody who follows the models.
    """

    updates: dict[str, list[Sighting]] = field(default_factory=dict)
    rest: list[Sighting] = field(default_factory=list)
    sums: list[Sighting] = field(default_factory=list)


def contributions_told(rehearsal: Rehearsal, found: Round, vector: NDArray[np.generic]) -> Float64:
    """What a vector tells in the unit of a sum: Σ n·Δw, or a sum of contributions with its noise; (d,)."""
    return rehearsal.decoded(vector, found.number)[:-1]


def add_round(
    views: Views,
    rehearsal: Rehearsal,
    found: Round,
    *,
    expected: Mapping[str, Float64],
    sealed: bool,
) -> None:
    """Adds what a round shows.

    Args:
        views: to be added to.
        rehearsal: whose round it is.
        found: the round.
        expected: what each site's rows are expected to contribute, as the adversary knows its classes; (d,).
        sealed: whether sealed bytes are made and looked at, where the method seals.
    """
    first, *others = found.vectors
    own = {site: contributions_told(rehearsal, found, vector) for site, vector in found.vectors.items()}
    total = rehearsal.decoded(found.total, found.number)[:-1]
    everybody = sum(expected.values(), np.zeros(total.size))
    views.sums.append(_sighting(rehearsal, found, total, everybody, len(own)))
    rest = everybody - expected[first]
    views.rest.append(_sighting(rehearsal, found, total - own[first], rest, len(others)))
    if rehearsal.plan.protection == NONE:
        for site, told in own.items():
            seen = _sighting(rehearsal, found, told, expected[site], 1)
            views.updates.setdefault(site, []).append(seen)
    elif sealed:
        for site, seen in sealed_sightings(rehearsal, found, found.vectors).items():
            views.updates.setdefault(site, []).append(seen)


def sealed_sightings(
    rehearsal: Rehearsal, found: Round, vectors: Mapping[str, NDArray[np.generic]]
) -> dict[str, Sighting]:
    """What the aggregator has of each site: sealed bytes, on which the attacks are run all the same."""
    made = rehearsal.protected(vectors)
    length = found.opened.size - 1
    return {
        site: Sighting(
            of=found.of,
            model=found.before,
            seen=as_numbers(blob, length),
            background=np.zeros(length),
            deviation=0.0,
        )
        for site, blob in made.sealed.items()
    }


def in_unit_of_sums(of: str, values: Float64, count: int) -> Float64:
    """A contribution as a sum holds it: n·Δw of an update."""
    return values * count if of == WEIGHTED_UPDATES else values


def _sighting(
    rehearsal: Rehearsal, found: Round, seen: Float64, background: Float64, shares: int
) -> Sighting:
    return Sighting(
        of=found.of,
        model=found.before,
        seen=seen,
        background=background,
        deviation=rehearsal.noise_deviation(found.number, shares),
        clipping_norm=found.clipping_norm,
    )
