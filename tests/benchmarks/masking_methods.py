"""The protections that mask, from the update to the opened mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from components.agreement.commitment import committed_digest
from components.agreement.protections import SEALED, SMC
from components.agreement.ticket import Ticket
from components.encryption.fixed_point import FixedPoint
from components.encryption.protection import (
    generate_contexts,
    masking_sealer,
    summer,
    unmasking_opener,
)
from components.encryption.update_vector import largest_sum
from tests.benchmarks.lifted_masks import Lifting, Releases, Unmaskings
from tests.benchmarks.signed_updates import SignedUpdates

LARGEST_VALUE = 0.25
MAX_EXAMPLES = 1000


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
        self._signed = SignedUpdates(sites, self._length)
        self._ticket = ticket()
        self._lifting: Lifting = (
            Unmaskings(sites) if protection == SMC else Releases(sites, protection, self._public, secret)
        )

    def client(self, site: int, update: NDArray[np.float64], sink: BinaryIO, *, again: bool = False) -> None:
        """Fixed point, commitment twice (made, and recomputed before sealing), masks, sealing, lifting."""
        vector = self._points.encode(update, int(self._weights[site]))
        salt = os.urandom(32)
        for _ in range(2):
            committed_digest(self._ticket, f"site-{site:02d}", salt, vector)
        masks = self._lifting.masks(site)
        sealer = masking_sealer(self._protection, self._public, masks, **self._packed)
        self._signed.write(site, sealer.seal(vector), sink, keep=not again)
        self._lifting.lift(site)

    def aggregator(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> None:
        """Verifies and adds."""
        self._signed.add(self._summer, blobs, total)

    def opening(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> NDArray[np.float64]:
        """Unlocks, verifies, adds again, compares, opens, takes the masks off."""
        masks, context = self._lifting.remaining()
        opener = unmasking_opener(self._protection, context, masks, **self._packed)
        self._signed.add(self._summer, blobs, None, expected=total)
        total.seek(0)
        decoded = self._points.decode(cast(NDArray[np.int64], opener.open(total, self._length)))
        mean = decoded[:-1]
        mean /= decoded[-1]
        return mean


def ticket() -> Ticket:
    """Of one attempt of nobody."""
    return Ticket(
        charter="1" * 64,
        federation="bench",
        round_number=1,
        attempt=1,
        void="",
        purpose="update",
        model="6" * 64,
        previous="",
        previous_folder="",
        snapshot="2026-01-01T00:00:00+00:00",
        local_epochs=1,
        learning_rate=0.1,
        batch_size=1,
        seed=1,
    )
