"""A reader that hashes what passes through it, so that one pass both uses and verifies bytes."""

from __future__ import annotations

import io
from typing import BinaryIO

from components.artifacts.background_hash import BackgroundHash


class HashedReader(io.RawIOBase):
    """Bytes on their way through a reader, counted and hashed as they pass.

    Attributes:
        count: bytes that have passed.
    """

    def __init__(self, source: BinaryIO) -> None:
        """`source` must outlive it."""
        super().__init__()
        self._source, self._hash, self.count = source, BackgroundHash(), 0

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes."""
        content = self._source.read(size)
        self.count += len(content)
        self._hash.update(content)
        return content

    def readable(self) -> bool:
        """Always."""
        return True

    @property
    def digest(self) -> str:
        """SHA-256 of what has passed."""
        return self._hash.hexdigest()
