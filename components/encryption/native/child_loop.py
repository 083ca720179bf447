"""What a forked child does: sets up, answers, computes what it is asked for, and answers again."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from components.encryption.native.child_limits import SOCKET, Limits, limit, limit_cpu, shed
from components.encryption.native.shared_parts import SharedParts
from components.errors import CiphertextError, UsageError

ANSWER: Final = struct.Struct("<BI")
"""How it went, and the length of the text that follows."""
DONE, REFUSED, UNUSABLE, TOO_LARGE = range(4)
MAX_TEXT: Final = 1000
REQUEST: Final = struct.Struct("<BB")
"""Which batch of the shared memory, and how many parts lie there."""

Compute = Callable[[memoryview], bytes]
"""Turns one part into its result; the part must not be kept."""


def serve(
    start: Callable[[], Compute], shared: SharedParts, kept: int, *, parent: int, limits: Limits
) -> NoReturn:
    """Serve the parent until it closes its end, something goes wrong, or the parent ends.

    Args:
        start: Sets up; called once, under the limits.
        shared: Where parts and results lie.
        kept: Descriptor of the socket to the parent.
        parent: See `shed`.
        limits: What may be taken.
    """
    # Never into the stack of who forked: nothing of it may run twice.
    try:
        shed(kept, parent)
        asking = socket.socket(fileno=SOCKET)
        limit(limits)
        computes: list[Compute] = []
        going = _answered(asking, lambda: computes.append(start()))
        while going and len(request := asking.recv(REQUEST.size)) == REQUEST.size:
            limit_cpu(limits)
            batch, count = REQUEST.unpack(request)
            going = _answered(asking, partial(_computed, computes[0], shared, batch, count))
    finally:
        os._exit(0)


def _computed(compute: Compute, shared: SharedParts, batch: int, count: int) -> None:
    for number in range(count):
        shared.result(batch, number)[:] = compute(shared.part(batch, number))


def _answered(asking: socket.socket, work: Callable[[], None]) -> bool:
    """Answers that the work is done, or with its error in a word; whether there was none."""
    status, text = DONE, b""
    try:
        work()
    except UsageError as error:
        status, text = UNUSABLE, str(error).encode()
    except CiphertextError as error:
        status, text = REFUSED, str(error).encode()
    except MemoryError:
        status, text = TOO_LARGE, b""
    except Exception as error:
        # Its message may quote what the library worked on.
        status, text = REFUSED, f"native code refused what it was given ({type(error).__name__})".encode()
    text = text[:MAX_TEXT]
    asking.sendall(ANSWER.pack(status, len(text)) + text)
    return status == DONE
