"""A wrapping key that the key holder may use and, outside of development, cannot copy."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final, Protocol

from components.artifacts.documents import canonical_json
from components.errors import KeyProviderError

DATA_KEY_BYTES: Final = 32


class KeyProvider(Protocol):
    """Wraps data keys of 32 bytes; what they encrypt never reaches it.

    No message of an error holds a data key, a PIN, or text that a server sent.
    """

    @property
    def provider(self) -> str:
        """Its word in `provider.yaml`."""
        ...

    @property
    def key(self) -> str:
        """Name of the wrapping key, as envelopes state it. Never a secret."""
        ...

    def wrap(self, data_key: bytes, *, bound: Mapping[str, str]) -> bytes:
        """Wrap a data key so that it unwraps with the same `bound` alone.

        Raises:
            KeyProviderError: the wrapping key cannot be reached or used.
        """
        ...

    def unwrap(self, wrapped: bytes, *, bound: Mapping[str, str]) -> bytes:
        """The data key that was wrapped.

        Raises:
            KeyProviderError: the wrapping key cannot be reached or used, or `wrapped` is not what it made
                for this `bound`.
        """
        ...


def bound_bytes(bound: Mapping[str, str]) -> bytes:
    """What a data key is bound to, as additional authenticated data: canonical JSON."""
    return canonical_json(dict(bound))


def require_working(provider: KeyProvider, *, federation: str) -> None:
    """Wraps and unwraps 32 random bytes that encrypt nothing.

    Raises:
        KeyProviderError: they do not come back.
    """
    sample = secrets.token_bytes(DATA_KEY_BYTES)
    bound = {"federation": federation, "purpose": "check"}
    if provider.unwrap(provider.wrap(sample, bound=bound), bound=bound) != sample:
        raise KeyProviderError(
            f"{provider.provider} key {provider.key} does not unwrap to what it wrapped: do not keep keys "
            "under it before its maker has said why"
        )
