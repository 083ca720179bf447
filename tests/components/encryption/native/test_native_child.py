"""Whatever native code does in the child is one refusal here, and the child is gone with its parent."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from components.encryption.native.child_limits import Limits
from components.encryption.native.native_child import Compute, NativeChild
from components.errors import CiphertextError, UsageError
from components.execution.forking import fork

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
QUICK = Limits(memory_bytes=32 << 20, cpu_s=1, wall_s=3.0)
PATIENT = Limits(memory_bytes=32 << 20, cpu_s=1, wall_s=120.0)
"""For what is to end for another reason than the clock, on a machine that may be busy."""
PART = 64


def crashing(part: memoryview) -> bytes:
    segmentation_fault()
    return b""


def looping(part: memoryview) -> bytes:
    endless_loop()
    return b""


def doubled(part: memoryview) -> bytes:
    return bytes(2 * value % 256 for value in part)


def child(compute: Compute, *, at_once: int = 2, limits: Limits = PATIENT) -> NativeChild:
    return NativeChild(
        lambda: compute,
        part_bytes=PART,
        result_bytes=PART,
        at_once=at_once,
        limits=limits,
    )


def parts(count: int) -> list[NDArray[np.uint8]]:
    return [np.full(PART, number, np.uint8) for number in range(count)]


def results_of(compute: Callable[[], object], limits: Limits = PATIENT) -> list[bytes]:
    """What a child computes from one part, for a test of what happens in it."""

    def once(part: memoryview) -> bytes:
        told = str(compute()).encode()
        return told.ljust(PART)

    return list(child(once, limits=limits).compute(parts(1)))


def segmentation_fault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def memory_bomb() -> None:
    # Written to, so that it is not only address space.
    bytearray(b"x") * (1 << 30)


def endless_loop() -> None:
    while True:
        pass


def endless_wait() -> None:
    time.sleep(60)


def leave() -> None:
    os._exit(7)


def foreign_error() -> None:
    raise ValueError("the plaintext is 12345")


def closing_its_socket() -> None:
    os.close(3)
    time.sleep(0.2)
    os._exit(0)


ENDS: dict[str, tuple[Callable[[], None], str]] = {
    "segmentation fault": (segmentation_fault, "was ended by signal 11 on what it was given: refused"),
    "abort": (abort, "was ended by signal 6 on what it was given: refused"),
    "memory bomb": (memory_bomb, "asked for more than 32 MB: refused"),
    "endless loop": (endless_loop, "did not end within 1 s of processor time: refused"),
    "endless wait": (endless_wait, "did not end within 3 s: refused"),
    "exit": (leave, "native code ended on what it was given: refused"),
    "an error of the library's": (foreign_error, r"refused what it was given \(ValueError\)"),
    "silence": (closing_its_socket, "native code ended on what it was given: refused"),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_ends_a_child_is_a_refusal(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    work, text = ENDS[name]
    with pytest.raises(CiphertextError, match=text) as caught:
        results_of(work, QUICK if work is endless_wait else PATIENT)
    assert "12345" not in str(caught.value)
    # The crash itself is silent: what a library prints may quote what it works on.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ENDS)
def test_what_ends_it_while_it_sets_up_is_one_too(name: str) -> None:
    work, text = ENDS[name]

    def start() -> Compute:
        work()
        return doubled

    limits = QUICK if work is endless_wait else PATIENT
    made = NativeChild(start, part_bytes=PART, result_bytes=PART, limits=limits)
    with pytest.raises(CiphertextError, match=text):
        list(made.compute(parts(1)))


def test_it_sets_up_while_its_parent_goes_on(tmp_path: Path) -> None:
    begun, gone_on = tmp_path / "begun", tmp_path / "gone on"

    def start() -> Compute:
        begun.touch()
        while not gone_on.exists():
            time.sleep(0.001)
        return doubled

    made = NativeChild(start, part_bytes=PART, result_bytes=PART)
    while not begun.exists():
        time.sleep(0.001)
    gone_on.touch()
    assert list(made.compute(parts(2))) == [bytes(PART), bytes([2] * PART)]


def test_computes_in_order_across_batches() -> None:
    made = child(doubled)
    for count in (0, 1, 2, 3, 4, 5, 17):
        assert list(made.compute(parts(count))) == [bytes([2 * number] * PART) for number in range(count)]


def test_takes_parts_while_it_computes() -> None:
    """Four batches of two are asked for before the first result is handed out, and no fifth."""
    taken: list[int] = []

    def source() -> Iterator[NDArray[np.uint8]]:
        for number, part in enumerate(parts(17)):
            taken.append(number)
            yield part

    computed = child(doubled).compute(source())
    next(computed)
    assert taken == list(range(8))


def test_what_was_left_half_done_is_not_taken_for_what_comes_next() -> None:
    made = child(doubled)
    left = made.compute(parts(17))
    assert next(left) == bytes(PART)
    fives = [np.full(PART, 5, np.uint8)] * 3
    assert list(made.compute(fives)) == [bytes([10] * PART)] * 3
    with pytest.raises(RuntimeError, match="one sequence at a time"):
        next(left)


def test_a_part_of_another_size_is_a_fault_of_the_program() -> None:
    with pytest.raises(ValueError, match="different structures"):
        list(child(doubled).compute([np.zeros(PART + 1, np.uint8)]))


def test_a_result_of_another_size_is_a_refusal() -> None:
    with pytest.raises(CiphertextError, match=r"refused what it was given \(ValueError\)"):
        list(child(lambda part: b"short").compute(parts(1)))


def test_an_error_of_ours_keeps_its_class_and_is_one_line() -> None:
    def start() -> Compute:
        raise UsageError("this is no context:\nmake one\x1b[2J")

    made = NativeChild(start, part_bytes=PART, result_bytes=PART)
    with pytest.raises(UsageError, match=r"^this is no context: make one \[2J$"):
        list(made.compute(parts(1)))


def test_a_child_that_is_over_stays_over() -> None:
    made = child(crashing)
    for _ in range(2):
        with pytest.raises(CiphertextError, match="native code"):
            list(made.compute(parts(1)))


def test_time_is_anew_for_each_request() -> None:
    """Three requests of half the processor time that one may take."""

    def busy(part: memoryview) -> bytes:
        end = time.process_time() + 0.6
        while time.process_time() < end:
            pass
        return bytes(part)

    made = child(busy, at_once=1, limits=Limits(cpu_s=1, wall_s=30.0))
    assert len(list(made.compute(parts(3)))) == 3


def test_killed_by_the_system_is_not_the_fault_of_what_it_was_given() -> None:
    with pytest.raises(MemoryError, match="the system killed a child"):
        results_of(lambda: os.kill(os.getpid(), signal.SIGKILL))


@linux
def test_it_has_no_descriptor_but_its_socket(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret, socket.socket() as network:
        assert secret.fileno() != network.fileno()
        (told,) = results_of(lambda: sorted(map(int, os.listdir("/proc/self/fd"))))  # noqa: PTH208
    # 4 is the folder that is being listed.
    assert told.strip() == b"[0, 1, 2, 3, 4]"


def test_it_leaves_no_core() -> None:
    """Cores that go through a pipe are written whatever the limit is, unless it is one byte."""
    (told,) = results_of(lambda: resource.getrlimit(resource.RLIMIT_CORE))
    assert told.strip() == b"(1, 1)"


def test_it_may_not_write_much() -> None:
    def write() -> None:
        descriptor = os.memfd_create("test")
        os.pwrite(descriptor, b"x", 1 << 21)

    with pytest.raises(CiphertextError, match="OSError"):
        results_of(write)


@linux
def test_nothing_is_left_of_it() -> None:
    made = child(doubled)
    process = made._child
    assert _runs(process)
    del made
    assert not Path(f"/proc/{process}").exists()


@linux
@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_with_its_parent(busy: bool) -> None:
    """The parent is killed, so that nothing of it can end anything."""
    reader, writer = os.pipe()
    parent = fork()
    if parent == 0:
        try:
            made = child(looping, limits=Limits(cpu_s=60))
            os.write(writer, made._child.to_bytes(8, "big"))
            if busy:
                list(made.compute(parts(1)))
            time.sleep(60)
        finally:
            os._exit(1)
    grandchild = int.from_bytes(os.read(reader, 8), "big")
    time.sleep(0.1)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    for descriptor in (reader, writer):
        os.close(descriptor)
    _assert_ends(grandchild)


def test_a_fork_of_its_parent_does_not_end_it() -> None:
    made = child(doubled)
    forked = fork()
    if forked == 0:
        made.close()
        os._exit(0)
    os.waitpid(forked, 0)
    assert list(made.compute(parts(1))) == [bytes(PART)]


def _assert_ends(process: int) -> None:
    deadline = time.monotonic() + 5
    while _runs(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(process)


def _runs(process: int) -> bool:
    """Whether it is there and no zombie that its new parent has yet to wait for."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] not in "ZX"
