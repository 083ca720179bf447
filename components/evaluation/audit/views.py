"""What an adversary makes of the opened sums: one score a canary, for each way of looking at them.

The adversary has seen every opened sum and every model, knows all rows but the canaries' coins, and is one
of the sites itself: it knows the vector that it sealed. The ways are fixed beforehand, and a bound pays for
having several.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.agreement.released_sum import CLASS_SUMS
from components.evaluation.attacks.joint_inclusion import COIN
from components.evaluation.attacks.sighting import Sighting, row_errors
from components.evaluation.audit.orthogonal_canaries import OrthogonalCanaries
from components.training.heads import Head

Float = NDArray[np.float64]

OWN: Final = "own share taken off"
"""The sum less what the colluding sites sealed: what the protocol's claim is about."""
SHARED: Final = "own noise taken off for all"
"""The sum less the colluding site's noise once for every site: nothing is left where all drew the same."""
DIFFERENCES: Final = "rounds against each other"
"""Differences of rounds with equal noise: nothing is left where a site draws the same noise again."""
UNCLIPPED: Final = "gradients at their length"
"""The sum less what the colluding sites sealed, read as if no gradient had been clipped."""
VIEWS: Final = (OWN, UNCLIPPED, SHARED, DIFFERENCES)
NO_CLIPPING: Final = 1e6
"""Longer than any gradient."""
_NO_NOISE: Final = 1e-4
"""Deviation, of a clipping norm, that stands for rounding where a way of looking assumes no noise."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One round, as numbers.

    Attributes:
        of: what its sum is of, see `released_sum`.
        model: before the round.
        clipping_norm: largest norm of one row's part.
        total: the opened sum, (d,).
        known: what rows that are in every training have added to it, (d,).
        unclipped_known: the same had no gradient been clipped, (d,).
        own: noise in it that the colluding sites sealed, (d,).
        one: noise that one of them sealed, (d,).
        members: sites in the sum.
        deviation: of the noise that is left after `own` is taken off, on each value.
    """

    of: str
    model: Head
    clipping_norm: float
    total: Float
    known: Float
    unclipped_known: Float
    own: Float
    one: Float
    members: int
    deviation: float

    def sighting(self, seen: Float, deviation: float, *, clipped: bool) -> Sighting:
        """The round with a vector that something was taken off; class sums are of features of one norm."""
        return Sighting(
            of=self.of,
            model=self.model,
            seen=seen,
            background=np.zeros_like(seen),
            deviation=deviation,
            clipping_norm=self.clipping_norm if clipped or self.of == CLASS_SUMS else NO_CLIPPING,
        )


def scores(rounds: Sequence[Seen], asked: OrthogonalCanaries) -> dict[str, Float]:
    """Scores of the canaries, (m,) by view; a view that no rounds allow is left out."""
    found = {}
    for view in VIEWS:
        parts = list(_parts(view, rounds, asked))
        if parts:
            found[view] = _estimates(parts, asked)
    return found


def possible_views(kinds: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    """The views that a schedule allows.

    Args:
        kinds: by round, what its sum is of, and the deviation of its noise.
    """
    pairs = any(first == second for first, second in itertools.pairwise(kinds))
    return VIEWS if pairs else VIEWS[:-1]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Along every axis: seen = sum over its canaries of coin · error + noise.

    Attributes:
        errors: (axes, labels_each, classes).
        seen: (axes, classes).
        deviation: of the noise.
    """

    errors: Float
    seen: Float
    deviation: float


def _parts(view: str, rounds: Sequence[Seen], asked: OrthogonalCanaries) -> Iterator[_Part]:
    if view == DIFFERENCES:
        for before, after in itertools.pairwise(rounds):
            if (before.of, before.deviation) == (after.of, after.deviation):
                first, second = (
                    _along(one, one.total - one.known, one.deviation, asked) for one in (before, after)
                )
                yield _Part(
                    errors=second.errors - first.errors,
                    seen=second.seen - first.seen,
                    deviation=_NO_NOISE * after.clipping_norm,
                )
        return
    for one in rounds:
        if view == OWN:
            yield _along(one, one.total - one.known - one.own, one.deviation, asked)
        elif view == UNCLIPPED:
            rest = one.total - one.unclipped_known - one.own
            yield _along(one, rest, one.deviation, asked, clipped=False)
        else:
            rest = one.total - one.known - one.members * one.one
            yield _along(one, rest, _NO_NOISE * one.clipping_norm, asked)


def _along(
    one: Seen, vector: Float, deviation: float, asked: OrthogonalCanaries, *, clipped: bool = True
) -> _Part:
    """A round's vector along the canaries' axes; the bias, one value of hundreds, is left out."""
    sighting, examples = one.sighting(vector, deviation, clipped=clipped), asked.canaries.examples
    classes, features = one.model["output.weight"].shape
    length = math.sqrt(features)
    axes = examples.features[:: asked.labels_each].astype(np.float64) / length
    weights = vector[classes if sighting.has_bias else 0 :].reshape(classes, features)
    errors = row_errors(sighting, examples).astype(np.float64) * length
    return _Part(
        errors=errors.reshape(asked.axes, asked.labels_each, classes),
        seen=axes @ weights.T,
        deviation=deviation,
    )


def _estimates(parts: Sequence[_Part], asked: OrthogonalCanaries) -> Float:
    """The linear estimate of least mean square error of the coins, less a half, axis by axis.

    (Kay 1993, "Fundamentals of Statistical Signal Processing: Estimation Theory", Theorem 12.1; see
    `joint_inclusion`.) At much noise that is the inner product, the most powerful test of one canary.
    """
    system = np.zeros((asked.axes, asked.labels_each, asked.labels_each))
    along = np.zeros((asked.axes, asked.labels_each))
    for part in parts:
        weight = part.deviation**-2.0
        rest = part.seen - part.errors.sum(axis=1) / 2
        system += weight * (part.errors @ part.errors.transpose(0, 2, 1))
        along += weight * np.einsum("alc,ac->al", part.errors, rest)
    place = np.arange(asked.labels_each)
    system[:, place, place] += COIN
    coins: Float = np.linalg.solve(system, along[:, :, None]).astype(np.float64, copy=False)
    return coins.ravel()
