"""Which `python3` the steps of a local run find first on their path.

Kubeflow's local runner starts a step by the name `python3`. Putting the interpreter's own folder first would
usually do, but that folder may hold another `python3` (a system's) or none.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path


def write_interpreter(folder: Path, command: Sequence[str]) -> None:
    """Writes an executable `python3` into `folder` that becomes `command` with the arguments it was given.

    It is a shell script: a path with spaces, as a virtual environment may have, cannot stand in a `#!` line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "python3"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    script.chmod(0o700)


def search_path(folder: Path, interpreter: Path, inherited: str) -> str:
    """PATH for the steps: `folder`, the programs installed beside the interpreter, then the caller's own.

    Where `folder` lies on a file system that runs no programs, the shell goes on to the second.
    """
    return os.pathsep.join([str(folder), str(interpreter.parent), *([inherited] if inherited else [])])
