"""What a site of a rehearsed round holds for one attempt, and the ticket it acts under."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.agreement.ticket import UPDATE, Ticket
from components.artifacts.documents import digest
from components.encryption.masking.pair_keys import KEY_BYTES, PrivateHalf

REHEARSED_TICKET: Final = Ticket(
    charter=digest(b"the charter of a rehearsal"),
    federation="rehearsal",
    round_number=2,
    attempt=1,
    void="",
    purpose=UPDATE,
    model=digest(b"the model of a rehearsal"),
    previous=digest(b"the receipt before"),
    previous_folder="rounds/00001-1",
    snapshot="2026-01-01T00:00:00+00:00",
    local_epochs=1,
    learning_rate=0.1,
    batch_size=1,
    seed=1,
)
"""Of an attempt that is no federation's. One serves all: every rehearsed attempt has keys of its own."""


@dataclass(frozen=True, kw_only=True)
class SiteKeys:
    """A site's own keys, and what it draws for one attempt.

    Attributes:
        signing: signs its documents.
        masking: its static key, and the attempt's that pads are made of.
        sharing: its static key, and the attempt's that others send their shares to under `smc`.
        seed: b, which the key of its self-mask comes from, 32 bytes.
        salt: of its commitment, 32 bytes.
    """

    signing: Ed25519PrivateKey = field(repr=False)
    masking: PrivateHalf = field(repr=False)
    sharing: PrivateHalf = field(repr=False)
    seed: bytes = field(repr=False)
    salt: bytes = field(repr=False)

    @classmethod
    def drawn(cls, name: str) -> SiteKeys:
        """Draws all of them from the system's randomness."""
        static = X25519PrivateKey.generate()
        masking, sharing = (
            PrivateHalf(name=name, static=static, ephemeral=X25519PrivateKey.generate()) for _ in range(2)
        )
        return cls(
            signing=Ed25519PrivateKey.generate(),
            masking=masking,
            sharing=sharing,
            seed=os.urandom(KEY_BYTES),
            salt=os.urandom(32),
        )


def drawn_keys(sites: Iterable[str]) -> dict[str, SiteKeys]:
    """Keys by site, sorted by name as everything in a round is."""
    return {site: SiteKeys.drawn(site) for site in sorted(sites)}


def key_text(key: X25519PrivateKey) -> str:
    """The public half, base64, as commitments have it."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()
