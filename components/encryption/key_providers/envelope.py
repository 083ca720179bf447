"""A secret key as it is stored under a key provider: AES-256-GCM under a data key that the provider wraps.

Canonical JSON that says who can open it and what it is for, and nothing secret:

    {"bound": {"context": …, "federation": …, "protection": …}, "ciphertext": …, "format": …, "key": …,
     "nonce": …, "provider": …, "wrapped_key": …}

Everything but the ciphertext is its additional authenticated data. The data key is drawn for one envelope, so
a nonce is used once. The provider never sees the secret key, and the envelope opens nothing without it.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from components.artifacts.documents import canonical_json
from components.encryption.key_providers.provider import DATA_KEY_BYTES, KeyProvider
from components.errors import KeyProviderError

FORMAT: Final = "crosscloud wrapped key 1"
MAX_ENVELOPE_BYTES: Final = 1 << 24
_NONCE_BYTES: Final = 12
_BEGINNING: Final = b'{"bound":{"'
_TEXTS = ("ciphertext", "format", "key", "nonce", "provider", "wrapped_key")


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """An envelope that is well formed; nothing in it is to be believed before it is opened.

    Attributes:
        provider: the word of what wrapped the data key.
        key: name of the wrapping key.
        bound: what the secret key is for.
        wrapped_key: the data key, wrapped.
        nonce: of the ciphertext, 12 bytes.
        ciphertext: of the secret key, with its tag of 16 bytes.
    """

    provider: str
    key: str
    bound: Mapping[str, str]
    wrapped_key: bytes
    nonce: bytes
    ciphertext: bytes

    def to_json(self) -> bytes:
        """What is stored."""
        return canonical_json({**self._header(), "ciphertext": _text(self.ciphertext)})

    def opened(self, provider: KeyProvider, *, bound: Mapping[str, str]) -> bytes:
        """The secret key.

        Args:
            provider: that wrapped it.
            bound: what it must be for.

        Raises:
            KeyProviderError: it was wrapped under another key, is for something else, was altered, or the
                provider cannot be used.
        """
        if (self.provider, self.key) != (provider.provider, provider.key):
            raise KeyProviderError(
                f"is wrapped by {self.provider} under {self.key}, and provider.yaml names "
                f"{provider.provider} {provider.key}: move it with 'crosscloud keys wrap --from', or restore "
                "provider.yaml"
            )
        if dict(self.bound) != dict(bound):
            raise KeyProviderError(
                f"is for {_shown(self.bound)}, not for {_shown(bound)}: restore the file of that name"
            )
        data_key = provider.unwrap(self.wrapped_key, bound=bound)
        try:
            cipher = AESGCM(data_key)
            return cipher.decrypt(self.nonce, self.ciphertext, canonical_json(self._header()))
        except (InvalidTag, ValueError):
            raise KeyProviderError("was altered: restore it from a backup") from None

    def _header(self) -> dict[str, Any]:
        return {
            "bound": dict(self.bound),
            "format": FORMAT,
            "key": self.key,
            "nonce": _text(self.nonce),
            "provider": self.provider,
            "wrapped_key": _text(self.wrapped_key),
        }


def enclosed(secret: bytes, provider: KeyProvider, *, bound: Mapping[str, str]) -> Envelope:
    """The envelope of a secret key, under a data key of its own.

    Raises:
        KeyProviderError: the provider cannot be used.
    """
    data_key, nonce = secrets.token_bytes(DATA_KEY_BYTES), secrets.token_bytes(_NONCE_BYTES)
    header = Envelope(
        provider=provider.provider,
        key=provider.key,
        bound=dict(bound),
        wrapped_key=provider.wrap(data_key, bound=bound),
        nonce=nonce,
        ciphertext=b"",
    )
    sealed = AESGCM(data_key).encrypt(nonce, secret, canonical_json(header._header()))
    return Envelope(**{**vars(header), "ciphertext": sealed})


def is_envelope(content: bytes) -> bool:
    """Whether stored bytes are meant as an envelope: a secret key in the clear begins so once in 2^88."""
    return content.startswith(_BEGINNING)


def read_envelope(content: bytes) -> Envelope:
    """The envelope in stored bytes.

    Raises:
        KeyProviderError: they are not one that this version knows, byte for byte.
    """
    try:
        found = json.loads(content)
        envelope = Envelope(
            provider=found["provider"],
            key=found["key"],
            bound=found["bound"],
            **{name: _bytes(found[name]) for name in ("wrapped_key", "nonce", "ciphertext")},
        )
        known = found["format"] == FORMAT and _is_plain(found) and envelope.to_json() == content
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        known = False
    if not known:
        raise KeyProviderError(
            "is not a wrapped key in the form this version knows: restore it from a backup"
        )
    return envelope


def _is_plain(found: dict[str, Any]) -> bool:
    """Only printable texts: some of them stand in messages, which are one line."""
    texts = [found[name] for name in _TEXTS] + [text for pair in found["bound"].items() for text in pair]
    return all(isinstance(text, str) and text.isprintable() for text in texts)


def _shown(bound: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value[:16]}" for name, value in sorted(bound.items()))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
