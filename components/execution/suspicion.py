"""Whose bytes native code works on, noted where it outlives the process: a crash is then put down to them.

A process that a signal ends says nothing any more. Its guard makes a page of memory that both share,
the child notes there what it is about to touch, and strikes it out when it is done.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from contextvars import ContextVar

_page: ContextVar[Suspicion | None] = ContextVar("suspicion", default=None)


class Suspicion:
    """A page that a guard shares with the child that it forks."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def watch(self) -> None:
        """In the child: notes of `suspected` go here from now on."""
        _page.set(self)

    def note(self, text: bytes) -> None:
        """In the child: a crash from now on is put down to this, at most 255 bytes; empty: to nothing."""
        self._memory[1 : 1 + len(text)] = text
        self._memory[0] = len(text)

    def read(self) -> str:
        """In the guard: what was noted last. The child may have written anything there."""
        return self._memory[1 : 1 + self._memory[0]].decode(errors="replace")


@contextlib.contextmanager
def suspected(what: bytes) -> Iterator[None]:
    """Native code works on this meanwhile; without a guard nothing is noted.

    Args:
        what: a few words that other parties may read (`b"the key holder's context"`).
    """
    page = _page.get()
    if page is None:
        yield
        return
    page.note(what)
    try:
        yield
    finally:
        page.note(b"")
