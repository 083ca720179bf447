"""How a site deals shares of its self key and its ephemeral private key, and how others open them.

Every share is encrypted under a key of its own, which dealer and receiver derive from the secret Z of the
two (static and sharing keys). What a receiver reveals later is not its share but that key: it opens the
share in the document the dealer has signed, so nobody can pass off another share as the dealer's, and
shares that open but do not give what the dealer is bound to are the dealer's own fault. That rests on
AES-GCM's tag: a second key under which an honest dealer's ciphertext opens takes 2^128 tries to find.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from components.agreement.dealt_shares import DealtShares
from components.artifacts.documents import digest, framed
from components.encryption.masking import shamir
from components.encryption.masking.pair_keys import (
    AttemptNames,
    PrivateHalf,
    PublicHalf,
    derive_key,
    others_of,
    shared_secret,
)
from components.errors import IntegrityError

Kind: TypeAlias = Literal["self share", "scalar share"]
SELF: Final[Kind] = "self share"
"""Of the key of a site's self-mask, which lifts that mask from a sum the site is in."""
SCALAR: Final[Kind] = "scalar share"
"""Of a site's ephemeral private key, which lifts its pads from a sum it is not in."""
_NONCE_BYTES: Final = 12


def points_of(roster: Sequence[str]) -> dict[str, int]:
    """Where every site's shares lie on the polynomials: its place in the sorted roster, from 1."""
    return {site: place for place, site in enumerate(sorted(roster), start=1)}


def sharing_secrets(own: PrivateHalf, roster: Sequence[PublicHalf]) -> dict[str, bytes]:
    """Z by site of the roster; with itself a site has its sharing key's own bytes.

    Args:
        own: this site's static key, and in the place of the ephemeral one its sharing key.
        roster: everybody's, in the same way.

    Raises:
        RefusedError: the roster or a key on it is refused (`shared_secret`).
    """
    return {own.name: own.ephemeral.private_bytes_raw()} | {
        other.name: shared_secret(own, other) for other in others_of(own, roster)
    }


def share_key(z: bytes, kind: Kind, names: AttemptNames, *, dealer: str, receiver: str) -> bytes:
    """The key of one share, which is no other's."""
    return derive_key(z, kind, names, dealer.encode(), receiver.encode())


def self_digest(names: AttemptNames, site: str, key: bytes) -> str:
    """SHA-256 that binds a site to its self key and hides it: the key is 32 bytes nobody can guess."""
    return digest(framed([b"crosscloud self key", *names.fields(), site.encode(), key]))


def sealed_shares(
    secret: bytes,
    kind: Kind,
    names: AttemptNames,
    dealer: str,
    *,
    threshold: int,
    secrets: Mapping[str, bytes],
) -> dict[str, str]:
    """Deal a secret: a share for every site of the roster, encrypted to it, base64 by receiver.

    Args:
        secret: 32 bytes.
        kind: what it is.
        names: what it is for.
        dealer: whose it is.
        threshold: shares that give it.
        secrets: the dealer's Z with every site of the roster.
    """
    points = points_of(list(secrets))
    shares = shamir.deal(secret, threshold=threshold, points=list(points.values()))
    sealed = {}
    for receiver, z in secrets.items():
        key = share_key(z, kind, names, dealer=dealer, receiver=receiver)
        bound = _associated(kind, names, dealer, receiver)
        nonce = os.urandom(_NONCE_BYTES)
        closed = nonce + AESGCM(key).encrypt(nonce, shares[points[receiver]], bound)
        sealed[receiver] = base64.b64encode(closed).decode()
    return sealed


def opened_share(key: bytes, kind: Kind, names: AttemptNames, dealt: DealtShares, receiver: str) -> bytes:
    """The share that a dealer has encrypted to a receiver.

    Raises:
        IntegrityError: the key does not open it: the receiver has given another, or the dealer encrypted it
            under another.
    """
    closed = base64.b64decode((dealt.selves if kind == SELF else dealt.scalars)[receiver])
    bound = _associated(kind, names, dealt.site, receiver)
    try:
        return AESGCM(key).decrypt(closed[:_NONCE_BYTES], closed[_NONCE_BYTES:], bound)
    except (InvalidTag, ValueError):
        raise IntegrityError(
            f"what {receiver} gave does not open its share of what {dealt.site} dealt"
        ) from None


def _associated(kind: Kind, names: AttemptNames, dealer: str, receiver: str) -> bytes:
    return framed([kind.encode(), *names.fields(), dealer.encode(), receiver.encode()])
