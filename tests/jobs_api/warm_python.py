"""A `python3` for `ProcessRunner` with the libraries of a site's steps imported: each Job is a fork of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines import warm_interpreter
from pipelines.local import ENCODER_MODULES, WARM_MODULES
from pipelines.local.interpreter import write_interpreter
from tests.jobs_api.process_runner import machine_environment

MODULES = ("components.site_steps.job", *WARM_MODULES[1:], *ENCODER_MODULES)
"""Without kfp, which leads the list: no Job imports it."""
READ_AT_LOAD = {"HF_HUB_OFFLINE": "1"}
"""As in the site's template: libraries look at it once, and a Job that says otherwise is run plainly."""
_LEND = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from pipelines.warm_interpreter import shim
shim.STEP = sys.argv[2:4]
shim.main()
"""
_PACKAGES = Path(__file__).resolve().parents[2]


@contextmanager
def warm_python(folder: Path, modules: Sequence[str] = MODULES) -> Iterator[str]:
    """The path of the program, which is written into `folder`; where forks are not safe, the plain one's."""
    if not warm_interpreter.SUPPORTED:
        yield sys.executable
        return
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path may have 107 bytes
        path = Path(short) / "socket"
        server = subprocess.Popen(
            warm_interpreter.server_command(sys.executable, path, modules),
            stdin=subprocess.PIPE,
            env=machine_environment() | READ_AT_LOAD,
        )
        try:
            while not path.exists() and server.poll() is None:
                time.sleep(0.01)
            write_interpreter(folder, [sys.executable, "-I", "-S", "-c", _LEND, str(_PACKAGES), str(path)])
            yield str(folder / "python3")
        finally:
            assert server.stdin is not None
            server.stdin.close()
            server.wait(20)
