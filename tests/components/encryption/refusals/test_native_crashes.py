"""What SEAL and TenSEAL do with forged sizes, and that a child of ours turns it into a refusal.

No party is ever sent what TenSEAL parses here: words are sent, and who receives them writes the sizes
himself. It shows why, and that the child holds should a parser see such bytes all the same.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tenseal
from numpy.typing import NDArray

from components.encryption import protection
from components.encryption.bfv.words import MODULUS, WORDS
from components.encryption.bfv.words import serialised_ciphertext as bfv_ciphertext
from components.encryption.ckks.words import serialised_ciphertext as ckks_vector
from components.encryption.native.native_child import Compute, Limits, NativeChild
from components.encryption.native.seal_words import varint
from components.errors import CiphertextError
from components.execution.forking import fork

SLOTS = {"sealed": 8192, "he": 4096}


@dataclass(frozen=True, kw_only=True)
class Forger:
    """Serialised vectors of TenSEAL with sizes that are not theirs."""

    name: str
    ciphertext: bytes
    after: bytes
    load: Callable[[Any, bytes], Any]
    context: Any

    @classmethod
    def of(cls, name: str) -> Forger:
        _, secret = protection.generate_contexts(name)
        words = np.random.default_rng(4).integers(0, MODULUS, WORDS, dtype=np.uint64)
        after = b""
        if name == "sealed":
            ciphertext, load = bfv_ciphertext(words), tenseal.bfv_vector_from
        else:
            vector, load = ckks_vector(words), tenseal.ckks_vector_from
            ciphertext, after = vector[vector.index(b"\x5e\xa1\x10\x04") : -9], vector[-9:]
        context = tenseal.context_from(secret, n_threads=1)
        return cls(name=name, ciphertext=ciphertext, after=after, load=load, context=context)

    def vector(self, *sizes: int) -> bytes:
        """One ciphertext that is announced as vectors of these sizes."""
        announced = b"".join(varint(size) for size in sizes)
        head = b"\x0a" + varint(len(announced)) + announced + b"\x12" + varint(len(self.ciphertext))
        return head + self.ciphertext + self.after

    def decrypted(self, serialised: bytes) -> NDArray[Any]:
        """What TenSEAL makes of it."""
        return np.array(self.load(self.context, serialised).decrypt())

    def guarded(self, serialised: bytes, memory_bytes: int = 1 << 29) -> str:
        """The refusal of a child that lets TenSEAL parse it; empty where it computes."""

        def start() -> Compute:
            return lambda part: self.decrypted(bytes(part)).astype("<f8").tobytes()

        child = NativeChild(
            start,
            part_bytes=len(serialised),
            result_bytes=8 * SLOTS[self.name],
            limits=Limits(memory_bytes=memory_bytes, cpu_s=20, wall_s=120.0),
        )
        try:
            list(child.compute([np.frombuffer(serialised, np.uint8)]))
        except CiphertextError as error:
            return str(error)
        return ""


def unguarded(work: Callable[[], object]) -> int:
    """How a process ends that does it: zero, or the signal that killed it."""
    child = fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
            resource.setrlimit(resource.RLIMIT_DATA, (1 << 29, 1 << 29))
            for standard in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), standard)
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return -os.waitstatus_to_exitcode(status)


@pytest.fixture(scope="module", params=SLOTS)
def forger(request: pytest.FixtureRequest) -> Forger:
    return Forger.of(request.param)


def test_a_forged_size_reads_memory_that_is_not_the_ciphertexts(forger: Forger) -> None:
    slots = SLOTS[forger.name]
    assert forger.decrypted(forger.vector(slots)).size == slots
    assert forger.decrypted(forger.vector(slots + 100)).size == slots + 100
    assert forger.guarded(forger.vector(slots)) == ""
    assert forger.guarded(forger.vector(slots + 100)) == "native code refused what it was given (ValueError)"


def test_forged_sizes_crash_a_process_and_not_ours(forger: Forger) -> None:
    """TenSEAL looks at the first of the sizes that are announced, of which there are none."""
    forged = forger.vector()
    assert unguarded(lambda: forger.decrypted(forged)) == signal.SIGSEGV
    assert forger.guarded(forged) == "native code was ended by signal 11 on what it was given: refused"


def test_a_forged_size_is_a_memory_bomb_and_not_ours(forger: Forger) -> None:
    """It asks for a gigabyte and more, of which it is given none."""
    told = forger.guarded(forger.vector(10**9), memory_bytes=64 << 20)
    assert told == "native code asked for more than 64 MB: refused"
