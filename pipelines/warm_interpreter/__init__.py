"""A fork server that lends local steps an interpreter with the heavy libraries already imported.

Every step of a pipeline that runs on this machine is a `python3 -m kfp.dsl.executor_main …` of its own, and
importing torch takes such a process longer than most steps compute. `server` imports once and forks for each
invocation; `shim` stands in for `python3`, hands the invocation over and ends as the fork ended. Nothing of
Kubeflow Pipelines or of the compiled pipeline changes, and without either file the steps run just the same,
only more slowly. `server` lists the differences that remain.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["SUPPORTED", "server_command", "shim_command"]

SUPPORTED = sys.platform == "linux"
"""Whether the server can run here: it needs SO_PEERCRED and PR_SET_PDEATHSIG, and forks that are safe after
large imports, which macOS does not promise."""

_HERE = Path(__file__).resolve().parent
_SERVER = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from pipelines.warm_interpreter.server import main
main()
"""


def server_command(interpreter: str, socket_path: Path, modules: Sequence[str]) -> list[str]:
    """The command that serves at `socket_path` (at most 107 bytes) until its standard input closes.

    Its environment must be the one the steps will have: `server` refuses invocations that differ in a
    variable which libraries read as they load.
    """
    return [interpreter, "-c", _SERVER, str(_HERE.parents[1]), str(socket_path), *modules]


def shim_command(interpreter: str, socket_path: Path) -> list[str]:
    """The command that behaves like `interpreter` when it is followed by an interpreter's arguments."""
    return [interpreter, "-I", "-S", str(_HERE / "shim.py"), str(socket_path)]
