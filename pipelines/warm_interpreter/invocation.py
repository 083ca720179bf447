"""One command line `python3 -m module …`, as a shim hands it over and as a fork becomes it."""

from __future__ import annotations

import atexit
import importlib
import os
import random
import runpy
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

READ_AT_LOAD = (
    "PYTHON", "_KFP_RUNTIME", "LANG", "LC_", "LD_", "MALLOC_", "GLIBC_", "OMP_", "GOMP_", "KMP_", "MKL_",
    "OPENBLAS_", "NUMEXPR_", "ARROW_", "TORCH", "PYTORCH_", "CUDA_", "NVIDIA_", "HF_", "TRANSFORMERS_",
)  # fmt: skip
"""Prefixes of the variables that interpreters and libraries look at only once."""

LOADED_IN = dict(os.environb)
"""The environment this process started in: libraries set variables of their own as they load (torch and
scikit-learn do), and those make no invocation a different one."""


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One `python3 -m module …`, with the descriptors that become its standard input, output and error."""

    arguments: tuple[str, ...]
    folder: bytes
    environment: dict[bytes, bytes]
    descriptors: tuple[int, ...]

    def run(self) -> NoReturn:
        """Becomes that process, in a fork; does not return."""
        for target, descriptor in enumerate(self.descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.environb.clear()
        os.environb.update(self.environment)
        time.tzset()
        os.chdir(self.folder)
        if not sys.flags.safe_path:
            sys.path.insert(0, str(Path.cwd()))
        importlib.invalidate_caches()
        tempfile.tempdir = None
        reseed()
        module = self.arguments[1]
        sys.orig_argv = [sys.executable, *self.arguments]
        sys.argv = [module, *self.arguments[2:]]
        sys.modules.pop(module, None)
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            finish(exit_status(stop))
        except Exception:  # what reaches the top of an interpreter: it prints the trace and ends with 1
            sys.excepthook(*sys.exc_info())
            finish(1)
        finish(0)


def decode(request: bytes, descriptors: Sequence[int]) -> Invocation:
    """Reads what the shim's `encode` wrote.

    Raises:
        ValueError: if it is no `-m module` with three descriptors, or its libraries would load differently.
    """
    count, *parts = request.split(b"\0")
    size = int(count)
    arguments = tuple(map(os.fsdecode, parts[:size]))
    if len(descriptors) != 3 or len(parts) <= size or size < 2 or arguments[0] != "-m":
        raise ValueError(f"{arguments[:2]} with {len(descriptors)} descriptors is not a module to be run")
    environment = {}
    for variable in parts[size + 1 :]:
        name, _, value = variable.partition(b"=")
        environment[name] = value
    if not loads_alike(environment):
        raise ValueError("a variable that is read at load time differs from the server's")
    return Invocation(
        arguments=arguments, folder=parts[size], environment=environment, descriptors=tuple(descriptors)
    )


def loads_alike(environment: dict[bytes, bytes]) -> bool:
    """Whether libraries would have loaded in `environment` as they did in this process's."""
    names = {name for name in (*environment, *LOADED_IN) if os.fsdecode(name).startswith(READ_AT_LOAD)}
    return all(environment.get(name) == LOADED_IN.get(name) for name in names)


def reseed() -> None:
    """Gives this fork's global random generators a state of their own, drawn from the system."""
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def exit_status(stop: SystemExit) -> int:
    """The status that an interpreter exits with for `stop`; prints its message, if that is what it holds."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    sys.stderr.write(f"{stop.code}\n")
    return 1


def finish(status: int) -> NoReturn:
    """Ends a fork as the interpreter would, but without tearing its modules down."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
