"""Imports modules once and runs each `python3 -m …` that `shim` hands over in a fork of itself.

It serves until its standard input closes: whoever started it holds the other end, so it cannot outlive its
owner, however that ends.

A fork gets the invocation's arguments, environment, working directory and standard descriptors, a fresh state
of Python's and NumPy's global random generators, and the `sys.path` of `python3 -m`. It dies when its shim is
killed, when the server is killed and when the owner is.

What differs from an interpreter of its own:
- Variables that libraries read while they load cannot take effect any more: an invocation in which one of
  `invocation.READ_AT_LOAD` differs from the server's own environment is declined; the shim runs it plainly.
- Hash randomisation is drawn once for all forks, and a source file that changes while the server runs is not
  read again.
- A step ends without tearing its modules down (that takes longer than most steps do): threads are joined,
  `atexit` runs and the standard streams are flushed, but `__del__` of what is still alive is not called.

No thread may run Python code here, and nothing may compute with torch: its thread pool would be missing in
every fork. Nor should any other thread be there when it forks, whose locks a fork would inherit: NumPy's end
before the first fork by OpenBLAS's own care, and Arrow is told to start none.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from pipelines.warm_interpreter.invocation import Invocation, decode
from pipelines.warm_interpreter.shim import STARTED, STATUS_BYTES

DECLINED = b"D"
REQUEST_LIMIT = 16 << 20
"""Bytes; Linux limits the arguments and environment of any process to less."""
PATIENCE = 5.0
"""Seconds that a peer may take to hand over a request before it is sent away."""
WITHOUT_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Arrow's jemalloc starts a thread as it loads, also where another allocator is used in its place."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def preload(modules: Sequence[str]) -> None:
    """Imports what is installed of `modules`, and leaves it where forks will not copy it.

    A library that is there but broken stops the server: the steps then run plainly and report it themselves.
    """
    for variable, value in WITHOUT_THREADS.items():
        os.environ.setdefault(variable, value)
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    for finalizer in weakref.finalize._registry:  # type: ignore[attr-defined]
        finalizer.atexit = False  # what the server has made is not for a fork to clean up
    gc.collect()
    gc.freeze()


def receive(connection: socket.socket) -> Invocation:
    """Reads one invocation from a peer.

    Raises:
        OSError: if the peer is another user's, is slow or goes away.
        ValueError: if it asks for what a fork cannot do.
    """
    _, peer, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if peer != os.getuid():
        raise PermissionError(f"user {peer} may not use the interpreter of user {os.getuid()}")
    connection.settimeout(PATIENCE)
    header, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    with contextlib.ExitStack() as stack:
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        request = receive_exactly(connection, int.from_bytes(header, "big"))
        invocation = decode(request, descriptors)
        stack.pop_all()
    return invocation


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Reads `size` bytes.

    Raises:
        ConnectionResetError: if the peer goes away before.
        ValueError: if that is more than any invocation needs.
    """
    if size > REQUEST_LIMIT:
        raise ValueError(f"a request has at most {REQUEST_LIMIT} bytes, got {size}")
    content = bytearray()
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise ConnectionResetError("the peer went away while it handed its request over")
        content += part
    return bytes(content)


class Server:
    """Accepts invocations at a listening socket and keeps track of the forks that run them."""

    def __init__(self, listener: socket.socket, lifeline: int) -> None:
        self._listener = listener
        self._lifeline = lifeline
        self._steps: dict[int, socket.socket] = {}
        self._abandoned: set[int] = set()
        self._ended, self._ending = os.pipe()
        os.set_blocking(self._ended, False)
        os.set_blocking(self._ending, False)
        signal.set_wakeup_fd(self._ending, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake)

    def serve(self) -> Invocation | None:
        """Serves until the owner has gone (None); in each fork, returns the invocation it is to run."""
        while True:
            watched = {self._steps[pid].fileno(): pid for pid in self._steps.keys() - self._abandoned}
            descriptors = [self._listener.fileno(), self._lifeline, self._ended, *watched]
            readable, _, _ = select.select(descriptors, [], [])
            if self._lifeline in readable:
                return None
            for descriptor in watched.keys() & set(readable):
                # A waiting shim has nothing left to say: its process is gone.
                os.kill(watched[descriptor], signal.SIGKILL)
                self._abandoned.add(watched[descriptor])
            if self._ended in readable:
                os.read(self._ended, 1024)
                self._answer_ended()
            if self._listener.fileno() in readable:
                connection, _ = self._listener.accept()
                invocation = self._start(connection)
                if invocation is not None:
                    return invocation

    def _start(self, connection: socket.socket) -> Invocation | None:
        """Forks for what a shim asks; returns the invocation in the fork and None in the server."""
        owner = os.getpid()
        try:
            invocation = receive(connection)
        except (OSError, ValueError):
            _answer(connection, DECLINED)
            connection.close()
            return None
        gone, _, _ = select.select([connection], [], [], 0)
        held, release = os.pipe()
        try:
            pid = os.fork() if not gone else None  # noqa: TID251  (what forks share is frozen)
        except OSError:  # no memory or no process left: the plain interpreter may fare better
            _answer(connection, DECLINED)
            pid = None
        if pid == 0:
            os.close(release)
            # The shim is told first: what it has not heard of it runs itself, also if the server ends here.
            if not os.read(held, 1):
                os._exit(1)
            os.close(held)
            self._leave(connection, owner)
            return invocation
        for descriptor in (held, *invocation.descriptors):
            os.close(descriptor)
        if pid is None:
            connection.close()
        else:
            self._steps[pid] = connection
            _answer(connection, STARTED)
            with contextlib.suppress(OSError):  # the fork may have been killed meanwhile
                os.write(release, STARTED)
        os.close(release)
        return None

    def _leave(self, connection: socket.socket, owner: int) -> None:
        """Sheds in a fork what belongs to the server, and ties the fork's life to it."""
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != owner:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (self._listener, connection, *self._steps.values()):
            each.close()
        os.close(self._ended)
        os.close(self._ending)

    def _answer_ended(self) -> None:
        """Tells the shims of all forks that have ended how they ended."""
        while self._steps:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._abandoned.discard(pid)
            connection = self._steps.pop(pid)
            _answer(connection, os.waitstatus_to_exitcode(status).to_bytes(STATUS_BYTES, "big", signed=True))
            connection.close()


def _answer(connection: socket.socket, content: bytes) -> None:
    with contextlib.suppress(OSError):  # a shim that was killed hears nothing
        connection.sendall(content)


def _wake(_signal: int, _frame: FrameType | None) -> None:
    """Does nothing: having a handler is what makes Python write to the wake-up descriptor."""


def main() -> None:
    """Serves as the module's docstring says; in a fork, becomes the invocation.

    It is started by `python3 -c`, with the folder of this package put before that path.
    """
    socket_path, *modules = sys.argv[1:]
    del sys.path[: 1 if sys.flags.safe_path else 2]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Whoever sees the socket can connect: it has its name once it listens. The other is not longer.
    silent = Path(socket_path).with_name("_")
    listener.bind(str(silent))
    # Steps that come while the modules load wait here: a second of waiting costs the first round less than
    # importing torch plainly beside an import of torch.
    listener.listen(64)
    silent.rename(socket_path)
    preload(modules)
    invocation = Server(listener, sys.stdin.fileno()).serve()
    if invocation is None:
        os._exit(0)  # nobody is left to tear anything down for
    invocation.run()
