"""What a child of a fork does with the garbage of its parent: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GARBAGE = """
import gc, os, time
from components.execution.forking import fork

class Owner:
    def __del__(self):
        told.append(os.getpid())

def leave(*held):
    cycle = [*held]
    cycle.append(cycle)

def collect():
    # The collector may run whenever it is enabled: here it does, as early as in Python's own hooks.
    if gc.isenabled():
        gc.collect()

told = []
gc.disable()
"""

OWN_AND_INHERITED = """
leave(Owner())
gc.enable()
os.register_at_fork(after_in_child=collect)
if (child := fork()) == 0:
    gc.collect()
    inherited = list(told)
    leave(Owner())
    gc.collect()
    os._exit(0 if (inherited, told, gc.isenabled()) == ([], [os.getpid()], True) else 1)
assert os.waitpid(child, 0)[1] == 0
assert gc.isenabled()
assert told == []
gc.collect()
assert told == [os.getpid()]
"""

DISABLED = """
if (child := fork()) == 0:
    os._exit(1 if gc.isenabled() else 0)
assert os.waitpid(child, 0)[1] == 0
assert not gc.isenabled()
"""

TENSEAL = """
from components.encryption.ckks.context import decrypting_child, generate_contexts, load_public_context
import numpy as np
public, secret = generate_contexts()
context = load_public_context(public)
time.sleep(0.3)  # its thread waits for work by now
gc.collect()  # so that the parent is not to collect soon
leave(context)
del context
gc.enable()
os.register_at_fork(after_in_child=collect)
child = decrypting_child(secret)
assert len(list(child.compute([np.zeros(16384, "<u8")]))) == 1
"""


def run(program: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-c", GARBAGE + program], env=environment, check=True, timeout=60)


@pytest.mark.parametrize("program", [OWN_AND_INHERITED, DISABLED], ids=["enabled", "disabled"])
def test_a_child_collects_its_own_garbage_alone(program: str) -> None:
    run(program)


def test_garbage_that_owns_threads_does_not_keep_a_native_child_for_ever() -> None:
    """Its destructor waits for a thread that only the parent has: 120 s, then the sum was refused."""
    run(TENSEAL)
