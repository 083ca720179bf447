"""One forked child in which native code works on what another party wrote.

SEAL is C++ without a promise for bytes from elsewhere: mutated ciphertexts and contexts crash it. So
a process whose end would be everybody's never hands it any. It forks a child once, as early as it can:
a fork costs what the process holds. The child sets up what it computes with (a context) while its
parent goes on, and then computes part after part. Parts and results pass through memory that both
share; a result is copied before it is looked at, and whoever asked for it checks its form again.
Whatever happens in the child is one `CiphertextError` here.

    memory   what it had when it was forked and `Limits.memory_bytes` more (RLIMIT_DATA, RLIMIT_AS)
    time     `Limits.cpu_s` (RLIMIT_CPU) and `Limits.wall_s` (the parent's clock), anew for each request
    files    no descriptor but its socket and /dev/null; 1 MB a file, a few at a time
    traces   no core, neither to a file nor through a pipe; nothing on stdout and stderr
    life     ends with its parent: by PR_SET_PDEATHSIG, at the latest when the socket closes
    garbage  of its parent is never collected in it: destructors may wait for the parent's threads

Without /proc (not Linux) its memory is not limited. It is a guard against crashes, bombs and loops, no
sandbox: it has a copy of its parent's memory, and the parent's rights.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from numpy.typing import NDArray

from components.encryption.native.child_limits import Limits
from components.encryption.native.child_loop import (
    ANSWER,
    DONE,
    MAX_TEXT,
    REQUEST,
    TOO_LARGE,
    UNUSABLE,
    Compute,
    serve,
)
from components.encryption.native.shared_parts import BATCHES, SharedParts
from components.errors import CiphertextError, UsageError
from components.execution.forking import fork
from components.execution.process_limits import lasting_process

__all__ = ["Compute", "Limits", "NativeChild"]

_GRACE_S: Final = 5.0
"""How long a child may take to be over once its socket is closed."""


class NativeChild:
    """A child that computes results of one size from parts of one size.

    Args:
        start: Called once, in the child and under its limits, and returns what computes. What it imports
            must be imported before. How it went shows when the first results are asked for.
        part_bytes: Size of a part.
        result_bytes: Size of a result.
        at_once: Parts that are passed at a time.
        limits: What it may take.
    """

    def __init__(
        self,
        start: Callable[[], Compute],
        *,
        part_bytes: int,
        result_bytes: int,
        at_once: int = 1,
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._shared = SharedParts(part_bytes=part_bytes, result_bytes=result_bytes, at_once=at_once)
        self._asked: deque[tuple[int, int]] = deque()
        self._begun = 0
        self._ready = False
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(self._limits.wall_s)
        lasting = lasting_process()
        child = fork()
        if child == 0:
            serve(start, self._shared, theirs.detach(), parent=lasting, limits=self._limits)
        theirs.close()
        self._child, self._end = child, weakref.finalize(self, _end, os.getpid(), child, self._socket)

    def compute(self, parts: Iterable[NDArray[Any]]) -> Iterator[bytes]:
        """Compute the results of all parts, in their order.

        The next parts are taken while the child is busy with those before. To begin with other parts
        ends what has been begun and is not done.

        Raises:
            CiphertextError: The child raised it or an error that is not crosscloud's, or did not survive;
                it is over then.
            UsageError: The child raised it while it set up.
            MemoryError: The system killed the child.
            RuntimeError: Other parts have been begun meanwhile.
            ValueError: A part of another size.
        """
        if not self._ready:
            self._answer()
            self._ready = True
        while self._asked:
            self._next_answer()
        self._begun += 1
        begun, source = self._begun, iter(parts)
        while self._ask(source):
            if len(self._asked) == BATCHES:
                yield from self._results(begun)
        while self._asked:
            yield from self._results(begun)

    def close(self) -> None:
        """End the child, which also ends when nobody refers to this object any more."""
        self._asked.clear()
        self._end()

    def _ask(self, source: Iterator[NDArray[Any]]) -> int:
        """Asks for the results of the next parts and returns of how many: zero at the end."""
        batch, count = (self._asked[-1][0] + 1) % BATCHES if self._asked else 0, 0
        for count, part in enumerate(islice(source, self._shared.at_once), start=1):
            self._shared.part(batch, count - 1)[:] = part.data.cast("B")
        if count:
            self._asked.append((batch, count))
            # Whether the child is still there, its answer tells.
            with contextlib.suppress(OSError):
                self._socket.sendall(REQUEST.pack(batch, count))
        return count

    def _results(self, begun: int) -> Iterator[bytes]:
        batch, count = self._next_answer()
        for number in range(count):
            yield bytes(self._shared.result(batch, number))
            if self._begun != begun:
                raise RuntimeError("other parts were begun: a child computes one sequence at a time")

    def _next_answer(self) -> tuple[int, int]:
        self._answer()
        return self._asked.popleft()

    def _answer(self) -> None:
        """Takes the child's next answer; after a refusal, and after its death, it is over."""
        try:
            status, size = ANSWER.unpack(_received(self._socket, ANSWER.size))
            text = _received(self._socket, min(size, MAX_TEXT))
        except TimeoutError:
            self.close()
            raise _too_slow(f"{self._limits.wall_s:g} s") from None
        except OSError:
            raise self._death() from None
        except BaseException:
            # An answer that was not waited for must not be taken for the next one.
            self.close()
            raise
        if status == DONE:
            return
        self.close()
        if status == UNUSABLE:
            raise UsageError(_one_line(text))
        if status == TOO_LARGE:
            size = self._limits.memory_bytes >> 20
            raise CiphertextError(f"native code asked for more than {size} MB: refused")
        raise CiphertextError(_one_line(text))

    def _death(self) -> CiphertextError | MemoryError:
        """What a child that has closed its socket died of."""
        code = _exit_code(self._child, time.monotonic() + _GRACE_S)
        self.close()
        if code == -signal.SIGKILL:
            return MemoryError("the system killed a child, as it does where memory runs out")
        if code == -signal.SIGXCPU:
            return _too_slow(f"{self._limits.cpu_s} s of processor time")
        how = f"was ended by signal {-code}" if code is not None and code < 0 else "ended"
        return CiphertextError(f"native code {how} on what it was given: refused")


def _received(source: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes.

    Raises:
        OSError: The other side has closed the socket.
    """
    content = b""
    while len(content) < size:
        part = source.recv(size - len(content))
        if not part:
            raise ConnectionResetError
        content += part
    return content


def _too_slow(limit_text: str) -> CiphertextError:
    return CiphertextError(f"native code did not end within {limit_text}: refused")


def _one_line(text: bytes) -> str:
    return "".join(c if c.isprintable() else " " for c in text.decode(errors="replace"))


def _exit_code(child: int, deadline: float) -> int | None:
    """How a child ended, negative for a signal; None if it has not by the deadline, or nobody knows."""
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.001)
    return None


def _end(owner: int, child: int, ours: socket.socket) -> None:
    """Ends a child, if it is this process's own and not waited for yet."""
    ours.close()
    if os.getpid() != owner:
        return
    with contextlib.suppress(ChildProcessError):
        ended, _ = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
