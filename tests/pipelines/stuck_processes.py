"""What can be seen from outside of processes that do not end: for the message of a test that has waited."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

TELL_WHERE = "import faulthandler, signal\nfaulthandler.register(signal.SIGUSR2, all_threads=True)\n"
"""Put before a Python program, so that `tell_where` may ask it and its forks."""
_TO_WRITE_S = 1.0


def children(pid: int) -> list[int]:
    """What a process's main thread has forked and not yet waited for."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    """Its children and theirs, each after its parent."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def table(pids: Iterable[int]) -> str:
    """A line for each process: state, what its main thread waits for in the kernel, and its command."""
    return "\n".join(_line(pid) for pid in pids)


def tell_where(pids: Iterable[int]) -> None:
    """Has each write the Python stacks of its threads to its standard error; see `TELL_WHERE`."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR2)
    time.sleep(_TO_WRITE_S)


def _line(pid: int) -> str:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    state, parent, group = fields[:3] if fields else ("gone", "", "")
    words = _read(pid, "cmdline").replace("\0", " ").split()
    threads = len(list(Path(f"/proc/{pid}/task").glob("*")))
    waits = f"{_read(pid, 'wchan') or '-'} syscall {_read(pid, 'syscall').split(' ')[0].strip() or '-'}"
    return f"{pid} of {parent} group {group} {state} {threads} threads {waits}: {' '.join(words)[:160]}"


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""
