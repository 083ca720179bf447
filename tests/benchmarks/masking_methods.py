"""The protections that mask, from the update to the opened mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from components.agreement.commitment import committed_digest
from components.agreement.protections import MASKED, SEALED
from components.agreement.ticket import Ticket
from components.encryption.fixed_point import FixedPoint
from components.encryption.holder_pads import member_pads, site_pad
from components.encryption.masks import Masks
from components.encryption.pair_keys import AttemptNames, PrivateHalf, site_masks
from components.encryption.protection import (
    generate_contexts,
    masking_sealer,
    summer,
    unmasking_opener,
)
from components.encryption.release_lock import open_releases, release
from components.encryption.update_vector import largest_sum
from tests.benchmarks.signed_updates import SignedUpdates

LARGEST_VALUE = 0.25
MAX_EXAMPLES = 1000
_CUTOFF = "4" * 64


class Releasing:
    """Protections `sealed` and `masked`: masks that the members of a sum release."""

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
        self._public, self._secret = generate_contexts(protection)
        self._summer = summer(protection, self._public, values_per_slot=values_per_slot)
        self._packed: dict[str, Any] = {"sites": sites, "values_per_slot": values_per_slot}
        self._signed = SignedUpdates(sites, self._length)
        self._names = AttemptNames(charter="1" * 64, ticket="2" * 64, purpose="update", roster="3" * 64)
        self._ticket = ticket()
        self._halves = [
            PrivateHalf(
                name=f"site-{site:02d}",
                static=X25519PrivateKey.generate(),
                ephemeral=X25519PrivateKey.generate(),
            )
            for site in range(sites)
        ]
        self._roster = [half.public() for half in self._halves]
        self._seeds = [os.urandom(32) for _ in range(sites)]
        self._releases: dict[str, Any] = {}

    def client(self, site: int, update: NDArray[np.float64], sink: BinaryIO, *, again: bool = False) -> None:
        """Fixed point, commitment twice (made, and recomputed before sealing), masks, sealing, release."""
        vector = self._points.encode(update, int(self._weights[site]))
        salt = os.urandom(32)
        for _ in range(2):
            committed_digest(self._ticket, f"site-{site:02d}", salt, vector)
        own = self._halves[site]
        sealer = masking_sealer(self._protection, self._public, self._masks(site), **self._packed)
        self._signed.write(site, sealer.seal(vector), sink, keep=not again)
        members = [half.name for half in self._halves]
        self._releases[own.name] = release(
            self._names, _CUTOFF, members, own, self._roster, self._seeds[site]
        )

    def aggregator(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> None:
        """Verifies and adds."""
        self._signed.add(self._summer, blobs, total)

    def opening(self, blobs: Sequence[BinaryIO], total: BinaryIO) -> NDArray[np.float64]:
        """Unlocks, verifies, adds again, compares, opens, takes the masks off."""
        names = [half.name for half in self._halves]
        masks = open_releases(self._names, _CUTOFF, names, names, self._releases)
        context = self._secret
        if self._protection == MASKED:
            masks = replace(masks, added=(*masks.added, *member_pads(context, self._roster, self._names)))
            context = self._public
        opener = unmasking_opener(self._protection, context, masks, **self._packed)
        self._signed.add(self._summer, blobs, None, expected=total)
        total.seek(0)
        decoded = self._points.decode(cast(NDArray[np.int64], opener.open(total, self._length)))
        return cast(NDArray[np.float64], decoded[:-1] / decoded[-1])

    def _masks(self, site: int) -> Masks:
        own = self._halves[site]
        masks = site_masks(self._names, own, self._roster, self._seeds[site])
        if self._protection != MASKED:
            return masks
        return replace(masks, added=(*masks.added, site_pad(own, self._public, self._names)))


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
