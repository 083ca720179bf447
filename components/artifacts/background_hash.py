"""SHA-256 that is computed beside the one who feeds it, on a processor that would wait otherwise.

Hashing takes as long as everything else that is done with sealed bytes. OpenSSL's SHA-256 runs without
the interpreter's lock, so other threads take it off the reader's way.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

_THREADS: Final = 2
_SMALL: Final = 1 << 14
"""Bytes that are hashed at once: handing them over would take longer."""
_SHORT: Final = 1 << 19
"""Bytes of each hash that are hashed at once: what is no longer needs no threads at all."""
_MOST_WAITING: Final = 4 << 20
"""Bytes of all hashes that may wait: sources that are faster than SHA-256 must not pile up in memory."""


class BackgroundHash:
    """SHA-256 of pieces in the order in which they are given; a piece must not change afterwards."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._waiting: deque[bytes] = deque()
        self._running = False
        self._here = _SHORT

    def update(self, piece: bytes) -> None:
        """Take the next piece."""
        if self._here > 0 or len(piece) < _SMALL:
            self._finish()
            self._hash.update(piece)
            self._here -= len(piece)
            return
        threads = _threads()
        with threads.moved:
            while threads.waiting > _MOST_WAITING:
                threads.moved.wait()
            threads.waiting += len(piece)
            self._waiting.append(piece)
            begins, self._running = not self._running, True
        if begins:
            threads.pool.submit(self._hash_waiting, threads)

    def hexdigest(self) -> str:
        """SHA-256 of all pieces so far, hexadecimal."""
        self._finish()
        return self._hash.hexdigest()

    def _finish(self) -> None:
        if self._running:
            threads = _threads()
            with threads.moved:
                while self._running:
                    threads.moved.wait()

    def _hash_waiting(self, threads: _Threads) -> None:
        """One thread at a time for each hash, so that pieces are hashed in their order.

        It goes on until none waits: to ask for another turn could be refused, and then all would wait.
        """
        while True:
            with threads.moved:
                pieces = list(self._waiting)
                self._waiting.clear()
                if not pieces:
                    self._running = False
                    threads.moved.notify_all()
                    return
            for piece in pieces:
                self._hash.update(piece)
            with threads.moved:
                threads.waiting -= sum(map(len, pieces))
                threads.moved.notify_all()


def piece_digests(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """SHA-256 of each piece by itself, 32 bytes each, in their order; several are hashed side by side."""
    remaining = iter(pieces)
    first = list(itertools.islice(remaining, 2))
    if len(first) < 2:
        return map(_digest, first)
    return _threads().pool.map(_digest, itertools.chain(first, remaining))


def _digest(piece: bytes | memoryview) -> bytes:
    return hashlib.sha256(piece).digest()


@dataclass
class _Threads:
    """The threads of this process, and how many bytes wait for them."""

    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, "sha256"))
    moved: threading.Condition = field(default_factory=threading.Condition)
    waiting: int = 0


_of_this_process: list[_Threads] = []


def _threads() -> _Threads:
    if not _of_this_process:
        _of_this_process.append(_Threads())
    return _of_this_process[0]


# A forked child has no threads of its parent's: it makes its own when it hashes.
os.register_at_fork(after_in_child=_of_this_process.clear)
