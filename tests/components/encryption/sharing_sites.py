"""Sites whose keys follow from their names, with what they deal and reveal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.encryption.masking.pair_keys import AttemptNames, PrivateHalf
from components.encryption.masking.share_keys import points_of, sharing_secrets
from components.encryption.masking.unmask_lock import AgreedSum

NAMES = AttemptNames(charter="cd", ticket="td", purpose="update", roster="rd")
FIVE = ("aws", "azure", "gcp", "onprem", "other")


def secret_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def half(name: str, kind: str = "sharing") -> PrivateHalf:
    """A site's static key and its key of this kind."""
    static, own = (
        X25519PrivateKey.from_private_bytes(secret_of(f"{name} {each}")) for each in ("static", kind)
    )
    return PrivateHalf(name=name, static=static, ephemeral=own)


def secrets_of(name: str, roster: Sequence[str] = FIVE) -> dict[str, bytes]:
    """A site's Z with everybody."""
    return sharing_secrets(half(name), [half(each).public() for each in roster])


def agreed(
    members: Sequence[str] = FIVE, *, threshold: int = 3, sharers: str = "sd", cutoff: str = "ud"
) -> AgreedSum:
    points = points_of(FIVE)
    return AgreedSum(
        names=NAMES,
        sharers=sharers,
        cutoff=cutoff,
        points={site: points[site] for site in members},
        threshold=threshold,
    )
