"""`file`: a wrapping key that lies beside what it wraps. For development: it protects against nothing."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from components.agreement.private_keys import check_private, write_private
from components.encryption.key_providers.provider import DATA_KEY_BYTES, bound_bytes
from components.errors import KeyProviderError

_NONCE_BYTES: Final = 12


class KeyFile:
    """AES-256-GCM under the 32 bytes of a file."""

    provider: Final = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def key(self) -> str:
        """The file's name."""
        return self._path.name

    def make(self) -> bool:
        """Writes the file with random bytes, unless it is there."""
        try:
            write_private(self._path, secrets.token_bytes(DATA_KEY_BYTES))
        except FileExistsError:
            return False
        return True

    def wrap(self, data_key: bytes, *, bound: Mapping[str, str]) -> bytes:
        """See `KeyProvider`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher().encrypt(nonce, data_key, bound_bytes(bound))

    def unwrap(self, wrapped: bytes, *, bound: Mapping[str, str]) -> bytes:
        """See `KeyProvider`."""
        nonce, ciphertext = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return self._cipher().decrypt(nonce, ciphertext, bound_bytes(bound))
        except (InvalidTag, ValueError):
            raise KeyProviderError(
                f"does not unwrap under {self._path}: it was altered, or wrapped under another key"
            ) from None

    def _cipher(self) -> AESGCM:
        if not self._path.is_file():
            raise KeyProviderError(
                f"no wrapping key at {self._path}: bring it back, or make one with 'crosscloud keys init'"
            )
        check_private(self._path)
        content = self._path.read_bytes()
        if len(content) != DATA_KEY_BYTES:
            raise KeyProviderError(f"{self._path} must hold {DATA_KEY_BYTES} bytes, got {len(content)}")
        return AESGCM(content)
