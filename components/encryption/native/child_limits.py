"""What a forked child gives up and what it may take before native code runs in it."""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import signal
from dataclasses import dataclass
from typing import Final

from components.execution.process_limits import end_with, leave_no_core, limit_memory, lower

SOCKET: Final = 3
"""The one descriptor that a child keeps, beside /dev/null in the place of the standard three."""

_OPEN_FILES: Final = 16
_FILE_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a child may take.

    Attributes:
        memory_bytes: beyond what it was forked with. A context of 262 kB and the tables for it take 3 MB.
        cpu_s: seconds of processor time for a request, whole; setting up takes 10 ms, a part 2 ms.
        wall_s: seconds until a request is answered, on a machine that may be busy.
    """

    memory_bytes: int = 64 << 20
    cpu_s: int = 20
    wall_s: float = 120.0


def shed(kept: int, parent: int) -> None:
    """Give up all that was inherited and is not needed; `kept` becomes `SOCKET`.

    Args:
        kept: The descriptor to keep.
        parent: Process with which this one ends, see `lasting_process`.
    """
    end_with(parent)
    gc.disable()
    # A crash is the parent's to tell, in one line.
    faulthandler.disable()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Who presses Ctrl-C means the parent, which ends its child.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(kept, SOCKET)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(SOCKET):
        os.dup2(nothing, standard)
    os.closerange(SOCKET + 1, os.sysconf("SC_OPEN_MAX"))


def limit(limits: Limits) -> None:
    """Put the limits in force, the time for the first request with them."""
    leave_no_core()
    lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    lower(resource.RLIMIT_FSIZE, _FILE_BYTES)
    limit_memory(limits.memory_bytes)
    limit_cpu(limits)


def limit_cpu(limits: Limits) -> None:
    """Allow processor time for one more request."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + 1 + limits.cpu_s
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
