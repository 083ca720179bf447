"""The exchange as a site's processes are given it: what they create in it is written down first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from components.artifacts.background_hash import BackgroundHash
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import ObjectExistsError
from components.execution.departures import Departures


class RecordedExchange:
    """A store whose creations are recorded in the site's own; everything else is the exchange's."""

    def __init__(self, exchange: Store, departures: Departures) -> None:
        self.uri = exchange.uri
        self._exchange, self._departures = exchange, departures

    def create(self, key: str, content: bytes) -> None:
        """As the exchange does; `StoreError` too where the site's store takes no record of it."""
        size, sha256 = len(content), digest(content)
        self._departures.begin(key, size=size, sha256=sha256)
        try:
            self._exchange.create(key, content)
        except ObjectExistsError:
            if not self._departures.is_settled(key, sha256):
                self._departures.end(key, size=size, sha256=sha256, arrived=False)
            raise
        self._departures.end(key, size=size, sha256=sha256, arrived=True)

    def create_from(self, key: str, chunks: Iterable[bytes]) -> None:
        """As the exchange does; the bytes are counted as they pass."""
        self._departures.begin(key)
        counted = _Counted(chunks)
        passing = iter(counted)
        try:
            self._exchange.create_from(key, passing)
        except ObjectExistsError:
            if not self._departures.is_settled(key):
                # A store may have refused before it took a byte: what the site has for this key still counts.
                for _ in passing:
                    pass
                self._departures.end(key, size=counted.size, sha256=counted.sha256, arrived=False)
            raise
        self._departures.end(key, size=counted.size, sha256=counted.sha256, arrived=True)

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Content of `key`."""
        return self._exchange.read(key, limit=limit)

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Content of `key`, to be read from front to back."""
        return self._exchange.open(key)

    def remove(self, key: str) -> None:
        """Erase `key`."""
        self._exchange.remove(key)

    def exists(self, key: str) -> bool:
        """Whether `key` is there."""
        return self._exchange.exists(key)

    def size(self, key: str) -> int:
        """Bytes of `key`."""
        return self._exchange.size(key)

    def keys(self, prefix: str = "") -> list[str]:
        """Sorted keys below `prefix`."""
        return self._exchange.keys(prefix)


class _Counted:
    """Chunks on their way, with their number of bytes and SHA-256 so far."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._hashed, self.size = chunks, BackgroundHash(), 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hashed.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        return self._hashed.hexdigest()
