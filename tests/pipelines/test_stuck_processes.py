"""What a test says that has waited too long must name what it waited for."""

from __future__ import annotations

import subprocess
import sys

from tests.pipelines.stuck_processes import TELL_WHERE, descendants, table, tell_where

_WAITS = """
import os, sys

def waiting_in_the_child():
    print("there", flush=True)
    sys.stdin.read()

if os.fork() == 0:
    waiting_in_the_child()
else:
    os.wait()
"""


def test_a_fork_that_waits_is_shown_with_its_stack() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TELL_WHERE + _WAITS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        (child,) = descendants(process.pid)
        first, second = table([process.pid, child]).splitlines()
        tell_where([child])
        _, told = process.communicate("")
    assert first.startswith(f"{process.pid} of ")
    assert second.startswith(f"{child} of {process.pid} group ")
    assert " 1 threads " in second
    assert "in waiting_in_the_child" in told


def test_one_that_has_ended_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert table([process.pid]).startswith(f"{process.pid} of  group  gone 0 threads")
    assert descendants(process.pid) == []
