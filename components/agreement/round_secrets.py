"""What a site draws for one attempt and forgets after it: salt, self-mask seed, and two keys.

Drawn once from the operating system's randomness and kept in the site's own store, wrapped with
AES-256-GCM under a key that only the site's signing key gives. They are erased once the receipt is
there, so that whoever obtains the site's keys later cannot open what was sealed before.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from components.agreement.private_keys import derived_key
from components.artifacts.stores import Store, create_or_read
from components.errors import IntegrityError

_PART = 32
_NONCE = 12
_FOLDER = "secrets"


@dataclass(frozen=True, kw_only=True)
class RoundSecrets:
    """Secrets of one attempt.

    Attributes:
        salt: of the commitment, 32 bytes.
        seed: b, which the self-mask's key is derived from, 32 bytes.
        ephemeral: X25519 key of this attempt alone.
        sharing: another, which shares of others' secrets are sent to under `smc`.
    """

    salt: bytes = field(repr=False)
    seed: bytes = field(repr=False)
    ephemeral: X25519PrivateKey = field(repr=False)
    sharing: X25519PrivateKey = field(repr=False)


def draw_once(store: Store, key: Ed25519PrivateKey, ticket: str) -> RoundSecrets:
    """Draws the secrets of a ticket, or finds those that were drawn before.

    Args:
        store: the site's own.
        key: the site's signing key.
        ticket: td.

    Raises:
        IntegrityError: what lies there was altered or wrapped under another key.
    """
    nonce = os.urandom(_NONCE)
    drawn = os.urandom(4 * _PART)
    wrapped = nonce + _wrapping(key).encrypt(nonce, drawn, ticket.encode())
    return _unwrapped(create_or_read(store, _key(ticket), wrapped), key, ticket)


def read_secrets(store: Store, key: Ed25519PrivateKey, ticket: str) -> RoundSecrets:
    """The secrets of a ticket.

    Raises:
        ObjectMissingError: none were drawn, or they are erased.
        IntegrityError: what lies there was altered or wrapped under another key.
    """
    return _unwrapped(store.read(_key(ticket), limit=1 << 12), key, ticket)


def erase(store: Store, ticket: str) -> None:
    """Removes the secrets of a ticket; nothing happens where there are none."""
    store.remove(_key(ticket))


def erase_others(store: Store, *tickets: str) -> None:
    """Removes the secrets of every ticket but these: of attempts that are over."""
    for key in store.keys(_FOLDER):
        if key not in map(_key, tickets):
            store.remove(key)


def _key(ticket: str) -> str:
    return f"{_FOLDER}/{ticket}.bin"


def _wrapping(key: Ed25519PrivateKey) -> AESGCM:
    return AESGCM(derived_key(key, "round secrets"))


def _unwrapped(wrapped: bytes, key: Ed25519PrivateKey, ticket: str) -> RoundSecrets:
    try:
        plain = _wrapping(key).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], ticket.encode())
    except (InvalidTag, ValueError):
        raise IntegrityError(
            "the stored secrets of this attempt were altered, or are another key's"
        ) from None
    if len(plain) != 4 * _PART:
        raise IntegrityError("the stored secrets of this attempt are of another version: void the attempt")
    salt, seed, ephemeral, sharing = (plain[start : start + _PART] for start in range(0, 4 * _PART, _PART))
    return RoundSecrets(
        salt=salt,
        seed=seed,
        ephemeral=X25519PrivateKey.from_private_bytes(ephemeral),
        sharing=X25519PrivateKey.from_private_bytes(sharing),
    )
