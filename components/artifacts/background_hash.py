"""SHA-256 that is computed beside the one who feeds it, on a processor that would wait otherwise.

Hashing takes as long as everything else that is done with sealed bytes. OpenSSL's SHA-256 runs without
the interpreter's lock, so other threads take it off the reader's way.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final

_THREADS: Final = 2
_SMALL: Final = 1 << 14
"""Bytes that are hashed at once: handing them over would take longer."""
_MOST_WAITING: Final = 4 << 20
"""Bytes that may wait to be hashed: a source that is faster than SHA-256 must not pile up in memory."""


class BackgroundHash:
    """SHA-256 of pieces in the order in which they are given; a piece must not change afterwards."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._running = False
        self._moved = threading.Condition()

    def update(self, piece: bytes) -> None:
        """Take the next piece."""
        if len(piece) < _SMALL:
            self._wait_for(0)
            self._hash.update(piece)
            return
        with self._moved:
            self._waiting.append(piece)
            self._waiting_bytes += len(piece)
            begins, self._running = not self._running, True
        if begins:
            _threads().submit(self._hash_waiting)
        self._wait_for(_MOST_WAITING)

    def hexdigest(self) -> str:
        """SHA-256 of all pieces so far, hexadecimal."""
        self._wait_for(0)
        return self._hash.hexdigest()

    def _wait_for(self, most: int) -> None:
        """Return once at most so many bytes wait; with none, once all are hashed."""
        with self._moved:
            while self._waiting_bytes > most:
                self._moved.wait()

    def _hash_waiting(self) -> None:
        """One thread at a time for each hash, so that pieces are hashed in their order."""
        while True:
            with self._moved:
                if not self._waiting:
                    self._running = False
                    return
                piece = self._waiting.popleft()
            self._hash.update(piece)
            with self._moved:
                self._waiting_bytes -= len(piece)
                self._moved.notify_all()


_pools: list[ThreadPoolExecutor] = []


def _threads() -> ThreadPoolExecutor:
    if not _pools:
        _pools.append(ThreadPoolExecutor(_THREADS, "sha256"))
    return _pools[0]


# A forked child has no threads of its parent's: it makes its own when it hashes.
os.register_at_fork(after_in_child=_pools.clear)
