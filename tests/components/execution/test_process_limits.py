"""Memory that is limited for a while, and who can be told of whose end."""

from __future__ import annotations

import os
import resource
import sys
import threading

import pytest

from components.execution.process_limits import lasting_process, memory_limited

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_DATA)


def limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(which) for which in LIMITS]


@linux
def test_memory_is_limited_for_a_while() -> None:
    before = limits()
    with memory_limited(64 << 20):
        assert len(bytearray(16 << 20)) == 16 << 20
        with pytest.raises(MemoryError):
            bytearray(1 << 30)
        assert limits() != before
    assert limits() == before
    assert len(bytearray(128 << 20)) == 128 << 20


@linux
def test_an_error_gives_it_back() -> None:
    before = limits()
    with pytest.raises(MemoryError), memory_limited(16 << 20):
        bytearray(1 << 30)
    assert limits() == before


@linux
def test_a_lower_limit_stays() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_limited(256 << 20):
        inner = limits()
        with memory_limited(1 << 40):
            assert limits() == inner
    assert resource.getrlimit(resource.RLIMIT_DATA) == (soft, hard)


def test_a_child_is_told_of_the_end_of_a_process_only_if_its_main_thread_forks() -> None:
    said: list[int] = []
    thread = threading.Thread(target=lambda: said.append(lasting_process()))
    thread.start()
    thread.join()
    assert (lasting_process(), said) == (os.getpid(), [0])
