"""Under `masked`, the pad that each site shares with the key holder alone.

Masks that sites lift for a sum lie in the exchange, where the aggregator reads them too. One more
stream in every site's vector, whose key only that site and the key holder can derive, keeps the sum
from everybody else. The key holder's public context is its X25519 key of so many rounds; the pad comes
from that key and both the site's static and its ephemeral key:

    pad_i = HKDF(X25519(static_i, holder) || X25519(ephemeral_i, holder); "holder", names, site, keys)

It hides no site from the key holder, and need not: what the members of a set release hides each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from components.encryption.masking.pair_keys import AttemptNames, PrivateHalf, PublicHalf, derive_key
from components.errors import CiphertextError, RefusedError, UsageError

CONTEXT_BYTES: Final = 32


def generate_contexts() -> tuple[bytes, bytes]:
    """Draw the key holder's key: 32 raw bytes of the public and of the private X25519 key."""
    private = X25519PrivateKey.generate()
    return private.public_key().public_bytes_raw(), private.private_bytes_raw()


def require_public(public_context: bytes) -> None:
    """Pass what can be a public context of `masked`.

    Raises:
        UsageError: It has another size.
    """
    if len(public_context) != CONTEXT_BYTES:
        raise UsageError(
            f"a public context of masked has {CONTEXT_BYTES} bytes, got {len(public_context)}: "
            "certify a key of this protection"
        )


def site_pad(own: PrivateHalf, public_context: bytes, names: AttemptNames) -> bytes:
    """The key of the stream that a site shares with the key holder, 32 bytes.

    Raises:
        RefusedError: The key holder's key is none, or of low order, so that everybody knows the pad.
    """
    try:
        holder = X25519PublicKey.from_public_bytes(public_context)
        secret = own.static.exchange(holder) + own.ephemeral.exchange(holder)
    except ValueError:
        raise RefusedError(
            "the key holder's key is no key or gives an all-zero secret: it hides no sum, replace it",
            disclosed="the key holder's key is unusable",
        ) from None
    return _pad(secret, names, own.public(), public_context)


def member_pads(
    secret_context: bytes, members: Sequence[PublicHalf], names: AttemptNames
) -> tuple[bytes, ...]:
    """The keys of the streams that the key holder shares with each member of a sum.

    Raises:
        CiphertextError: A member's key gives no secret.
        UsageError: The secret context is none of `masked`.
    """
    try:
        private = X25519PrivateKey.from_private_bytes(secret_context)
    except ValueError:
        raise UsageError(
            f"a secret context of masked has {CONTEXT_BYTES} bytes, got {len(secret_context)}"
        ) from None
    public = private.public_key().public_bytes_raw()
    try:
        return tuple(
            _pad(
                private.exchange(X25519PublicKey.from_public_bytes(each.static))
                + private.exchange(X25519PublicKey.from_public_bytes(each.ephemeral)),
                names,
                each,
                public,
            )
            for each in members
        )
    except ValueError:
        raise CiphertextError("this sum does not open to a sum of updates: refused") from None


def _pad(secret: bytes, names: AttemptNames, site: PublicHalf, holder: bytes) -> bytes:
    return derive_key(secret, "holder", names, site.name.encode(), site.static, site.ephemeral, holder)
