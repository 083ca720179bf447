"""Stands in for `python3`: lends a pipeline step a warm interpreter, or becomes the real one.

Run as `python3 -I -S shim.py SOCKET ARGUMENT…`, where the arguments are those of a `python3` command line.
`-m kfp.dsl.executor_main …` is handed to the fork server at SOCKET, together with the environment, the
working directory and the three standard descriptors; this process then waits and ends as the fork ended, by
exit status or by signal. If this process is killed the server kills the fork. Any other command line, and any
that the server cannot be reached for or declines before it has started, replaces this process by the real
interpreter.

It starts once for every step, so it imports next to nothing: `_socket` in place of `socket` halves its time.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing typing would take as long as the rest of this file
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Mapping

STEP = ["-m", "kfp.dsl.executor_main"]
STARTED = b"S"
"""The server's answer before a fork begins; anything else, or nothing, means that no step was started."""
STATUS_BYTES = 2
"""The size of its second answer: the exit status, or minus the number of the signal that ended the fork."""


def main() -> None:
    """Runs the command line that follows the socket's path."""
    socket_path, *arguments = sys.argv[1:]
    status = lend(socket_path, arguments) if arguments[:2] == STEP else None
    if status is None:
        os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606  (no shell is wanted)
    end_as(status)


def lend(socket_path: str, arguments: list[str]) -> int | None:
    """Has the server run `arguments`.

    Returns:
        The exit status, 0 to 255, or minus the number of the signal that ended the step; None when the server
        started nothing, so that the step can be run elsewhere without being run twice.
    """
    import _socket
    from array import array

    descriptors = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", [0, 1, 2]))]
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        request = encode(arguments, os.getcwdb(), os.environb)  # noqa: PTH109  (pathlib is slow to import)
        connection.connect(socket_path)
        connection.sendmsg([len(request).to_bytes(4, "big")], descriptors)
        connection.sendall(request)
    except OSError:
        return None
    if receive(connection, 1) != STARTED:
        return None
    answer = receive(connection, STATUS_BYTES)
    if len(answer) < STATUS_BYTES:
        sys.stderr.write("the warm interpreter ended while this step ran, and the step with it\n")
        return 1
    return int.from_bytes(answer, "big", signed=True)


def encode(arguments: list[str], folder: bytes, environment: Mapping[bytes, bytes]) -> bytes:
    """One invocation as NUL-separated bytes: none of its parts can hold a NUL."""
    variables = [name + b"=" + value for name, value in environment.items()]
    return b"\0".join([b"%d" % len(arguments), *map(os.fsencode, arguments), folder, *variables])


def receive(connection: socket, size: int) -> bytes:
    """Reads `size` bytes, or fewer when the server has gone."""
    content = b""
    while len(content) < size:
        try:
            part = connection.recv(size - len(content))
        except OSError:
            return content
        if not part:
            return content
        content += part
    return content


def end_as(status: int) -> None:
    """Ends this process as the step ended."""
    if status < 0:
        import signal

        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 0xFF)


if __name__ == "__main__":
    main()
