"""The protections that mask, from the update to the opened mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import least_sum_sites
from components.agreement.commitment import committed_digest
from components.agreement.protections import SEALED, SMC
from components.encryption.fixed_point import FixedPoint
from components.encryption.protection import (
    generate_contexts,
    masking_sealer,
    summer,
    unmasking_opener,
)
from components.encryption.update_vector import largest_sum
from components.evaluation.rehearsal.lifted_masks import FixedSets, Lifting, Releases, Unmaskings
from components.evaluation.rehearsal.site_keys import REHEARSED_TICKET
from tests.benchmarks.signed_sites import NAMES, keys_of, signed_updates

LARGEST_VALUE = 0.25
MAX_EXAMPLES = 1000
FIXED = FixedSets(sharers="7" * 64, cutoff="4" * 64)


class Masking:
    """Protections `sealed`, `masked` and `smc`."""

    def __init__(
        self,
        weights: NDArray[np.int64],
        values: int,
        *,
        protection: str = SEALED,
        values_per_slot: Literal[1, 2] = 2,
    ) -> None:
        """`weights` are numbers of examples by site."""
        self._protection, self._weights, sites = protection, weights, len(weights)
        self._points = FixedPoint(
            sites=sites,
            clipping_norm=1e9,
            largest_value=LARGEST_VALUE,
            max_examples=MAX_EXAMPLES,
            largest_sum=largest_sum(protection, values_per_slot),
        )
        self._length = self._points.length(values)
        self._public, secret = generate_contexts(protection)
        self._summer = summer(protection, self._public, values_per_slot=values_per_slot)
        self._packed: dict[str, Any] = {"sites": sites, "values_per_slot": values_per_slot}
        self._keys = keys_of(sites)
        self._sites = list(self._keys)
        self._signed = signed_updates(self._keys, protection, self._length)
        self._unmaskings = Unmaskings(self._keys, NAMES, least_sum_sites(sites, 1))
        self._lifting: Lifting = (
            self._unmaskings
            if protection == SMC
            else Releases(self._keys, NAMES, protection, (self._public, secret))
        )

    def client(self, site: int, update: NDArray[np.float64], sink: BinaryIO, *, again: bool = False) -> None:
        """Fixed point, commitment twice (made, and recomputed before sealing), masks, sealing, lifting."""
        vector, name = self._points.encode(update, int(self._weights[site])), self._sites[site]
        for _ in range(2):
            committed_digest(REHEARSED_TICKET, name, self._keys[name].salt, vector)
        if self._protection == SMC:
            self._unmaskings.deal(name)
        masks = self._lifting.masks(name)
        sealer = masking_sealer(self._protection, self._public, masks, **self._packed)
        self._signed.write(name, sealer.seal(vector), sink, keep=not again)
        self._lifting.lift(name, FIXED)

    def aggregator(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> None:
        """Verifies and adds."""
        self._signed.add(self._summer, blobs, total)

    def opening(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> NDArray[np.float64]:
        """Unlocks, verifies, adds again, compares, opens, takes the masks off."""
        masks, context = self._lifting.remaining(FIXED)
        opener = unmasking_opener(self._protection, context, masks, **self._packed)
        self._signed.add(self._summer, blobs, None, expected=total)
        total.seek(0)
        decoded = self._points.decode(cast(NDArray[np.int64], opener.open(total, self._length)))
        mean = decoded[:-1]
        mean /= decoded[-1]
        return mean
