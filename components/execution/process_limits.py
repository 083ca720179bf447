"""What a process gives up before it works on what another party wrote: its core, an orphan's life, memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CORE_BYTES: Final = 1
"""Less than the smallest core. Zero would do for files, but cores that go through a pipe ignore it."""
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
_ORPHANED: Final = 3


def lasting_process() -> int:
    """Id of this process if a child that is forked now can be told when it ends, otherwise zero.

    The system tells a child when the *thread* that forked it ends: it must be the main one.
    """
    return os.getpid() if threading.current_thread() is threading.main_thread() else 0


def end_with(parent: int) -> None:
    """Let this process be killed when its parent ends.

    Args:
        parent: what `lasting_process` said before the fork.
    """
    if parent and _LIBC:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(_ORPHANED)


def leave_no_core() -> None:
    """A crash writes none: it would hold keys and data."""
    lower(resource.RLIMIT_CORE, _CORE_BYTES)


def lower(which: int, value: int) -> None:
    """Lower both limits for good; one that is lower already stays."""
    _, hard = resource.getrlimit(which)
    least = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (least, least))


def limit_memory(more: int) -> None:
    """Let this process have so many bytes more than it has now, for good; without /proc no limit is set."""
    for which, bytes_taken in _taken():
        lower(which, bytes_taken + more)


@contextlib.contextmanager
def memory_limited(more: int) -> Iterator[None]:
    """Let this process have so many bytes more than it has now, for a while; then comes MemoryError."""
    before = {which: resource.getrlimit(which) for which, _ in _taken()}
    try:
        for which, bytes_taken in _taken():
            soft, hard = before[which]
            wanted = bytes_taken + more
            resource.setrlimit(which, (wanted if soft == resource.RLIM_INFINITY else min(soft, wanted), hard))
        yield
    finally:
        for which, limits in before.items():
            resource.setrlimit(which, limits)


def _taken() -> list[tuple[int, int]]:
    """Address space and private memory in bytes, each beside its limit; nothing without /proc."""
    try:
        pages = [int(field) for field in Path("/proc/self/statm").read_text().split()]
    except OSError:
        return []
    page = resource.getpagesize()
    return [(resource.RLIMIT_AS, pages[0] * page), (resource.RLIMIT_DATA, pages[5] * page)]
