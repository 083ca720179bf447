"""One warm interpreter for all runs of a test process: what a run would import by itself is imported once.

A run that is lent it starts its host and `python3` as ever, but no fork server of its own: its steps are
forks of this one, which declines what a run's own would decline.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines import warm_interpreter
from pipelines.local import ENCODER_MODULES, WARM_MODULES
from pipelines.warm_interpreter.invocation import READ_AT_LOAD
from tests.pipelines.stuck_processes import TELL_WHERE, children, descendants, table, tell_where

_BORROW = """
import sys
from pathlib import Path
from pipelines import warm_interpreter
from pipelines.cli import main
plain, shim, lent = warm_interpreter.server_command, warm_interpreter.shim_command, Path({!r})
wait = "import sys; sys.stdin.read()"
warm_interpreter.server_command = lambda interpreter, *_: [interpreter, "-I", "-S", "-c", wait]
warm_interpreter.shim_command = lambda interpreter, _: shim(interpreter, lent)
main()
"""
STEPS_HAVE = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "_KFP_RUNTIME": "true"}
"""What a run adds to the environment of its steps that libraries look at as they load."""


@dataclass(frozen=True, kw_only=True)
class LentInterpreter:
    """A fork server, the folder of its socket, and the environment it was started in."""

    process: subprocess.Popen[bytes]
    folder: Path
    environment: dict[str, str]

    @classmethod
    def start(cls) -> LentInterpreter:
        """Starts it; what comes while it imports waits."""
        folder = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's path may have 107 bytes
        modules = (*WARM_MODULES, *ENCODER_MODULES)
        interpreter, flag, program, *rest = warm_interpreter.server_command(
            sys.executable, folder / "socket", modules
        )
        environment = dict(os.environ)
        process = subprocess.Popen(
            [interpreter, flag, TELL_WHERE + program, *rest],
            stdin=subprocess.PIPE,
            env=environment | STEPS_HAVE,
            start_new_session=True,
        )
        while not (folder / "socket").exists() and process.poll() is None:
            time.sleep(0.01)
        return cls(process=process, folder=folder, environment=environment)

    def command(self) -> list[str]:
        """`crosscloud` whose runs borrow it."""
        return [sys.executable, "-c", _BORROW.format(str(self.folder / "socket"))]

    def environment_now(self) -> dict[str, str]:
        """This process's, without what libraries have set since: scikit-learn sets two variables as it loads.

        Runs that inherited those would be declined, and each of their steps would import torch anew.
        """
        now = {name: value for name, value in os.environ.items() if not name.startswith(READ_AT_LOAD)}
        return now | {
            name: value for name, value in self.environment.items() if name.startswith(READ_AT_LOAD)
        }

    def close(self) -> None:
        """Ends it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)
        shutil.rmtree(self.folder)

    def signal_steps(self, number: signal.Signals) -> None:
        """Sends a signal to all steps that run in it. A server that is stopped starts no more."""
        for child in children(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    def stop(self) -> None:
        """Starts no more steps until it goes on."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Goes on after a stop."""
        os.kill(self.process.pid, signal.SIGCONT)


_STARTED: list[LentInterpreter] = []
_SAID_LAST = 12_000
"""Characters of a log that are shown of a run that does not end."""


def lent() -> LentInterpreter | None:
    """This process's, started when it is first asked for; None where forks are not safe."""
    if not warm_interpreter.SUPPORTED:
        return None
    if not _STARTED:
        _STARTED.append(LentInterpreter.start())
    return _STARTED[0]


def end_lent() -> None:
    """Ends this process's, if it was started."""
    while _STARTED:
        _STARTED.pop().close()


def stuck(command: int, lender: LentInterpreter | None, logs: Iterable[Path]) -> str:
    """What a command that does not end and all it has started wait for, and what its steps said last."""
    lent_to = descendants(lender.process.pid) if lender else []
    server = [lender.process.pid] if lender else []
    seen = table([command, *descendants(command), *server, *lent_to])
    tell_where(lent_to)
    return "\n".join([seen, *(log.read_text(errors="replace")[-_SAID_LAST:] for log in logs)])
