"""`crosscloud run` as somebody sees it who may stop it or kill it at any step."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from pipelines.local.tasks import read_tasks
from tests.conftest import SmallFederation
from tests.pipelines.lent_interpreter import lent, stuck
from tests.pipelines.stuck_processes import children

COMMAND = (sys.executable, "-c", "from pipelines.cli import main; main()")
PATIENCE = 180.0
_STARTS = re.compile(r"Executing task '([^']+)'")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class RunInProgress:
    """`crosscloud run` in a process group of its own, followed through the log it writes."""

    def __init__(self, federation: SmallFederation, *words: str) -> None:
        self._runs = federation.home / federation.document["federation"] / "runs"
        self._earlier = set(self._runs.glob("*"))
        self._titles: dict[str, str] = {}
        self._lent = lent()
        command = self._lent.command() if self._lent else COMMAND
        self.process = subprocess.Popen(
            [*command, "run", str(federation.path), *words],
            cwd=federation.home.parent,
            env=(self._lent.environment_now() if self._lent else dict(os.environ))
            | {"CROSSCLOUD_HOME": str(federation.home), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        self.process.communicate()

    def await_start(self, step: str, *, nth: int = 1) -> list[str]:
        """Waits until the `nth` task of this kind starts; the titles of its tasks that have, in order."""
        deadline = time.monotonic() + PATIENCE
        while True:
            started = [title for title in self.started() if title.partition(" · ")[0] == step]
            if len(started) >= nth:
                return started
            if self.process.poll() is not None:
                pytest.fail(f"{step} never started: {self.process.communicate()}")
            if time.monotonic() > deadline:
                pytest.fail(f"{step} has not started after {PATIENCE:g} s:\n{self._stuck()}")
            time.sleep(0.002)

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Waits for the end of the command; what it printed."""
        try:
            out, err = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired as late:
            pytest.fail(f"{late}\n{self._stuck()}")
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, out, err)

    def started(self) -> list[str]:
        """Titles of the tasks that the runner's log says have started."""
        try:
            log = _COLOUR.sub("", self.log.read_text())
        except FileNotFoundError:
            return []
        if not self._titles and _STARTS.search(log):
            tasks = read_tasks((self.log.parent / "round.yaml").read_text())
            self._titles = {name: task.title for name, task in tasks.items()}
        return [self._titles[name] for name in _STARTS.findall(log)]

    @property
    def log(self) -> Path:
        """The runner's log, which may not be there yet."""
        return next(iter(set(self._runs.glob("*")) - self._earlier), Path("not-yet")) / "log.txt"

    @property
    def groups(self) -> list[int]:
        """The command's process group and that of the runner's host, where both still live."""
        groups = [self.process.pid] if self.process.poll() is None else []
        return [*groups, *(child for child in children(self.process.pid) if _session(child) == child)]

    def kill(self) -> None:
        """Ends every process of the run at once, as a machine that loses power would."""
        groups = self.groups
        folders = [_socket_folder(group) for group in groups[1:]]
        with self._no_new_steps():
            for group in groups:
                _signal(group, signal.SIGKILL)
            if self._lent and groups:
                self._lent.signal_steps(signal.SIGKILL)
        self.process.wait()
        for folder in filter(None, folders):
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops every process of the run in its tracks, and lets it go on at the end."""
        groups = self.groups
        with self._no_new_steps():
            for group in groups:
                _signal(group, signal.SIGSTOP)
            if self._lent:
                self._lent.signal_steps(signal.SIGSTOP)
            try:
                yield
            finally:
                if self._lent:
                    self._lent.signal_steps(signal.SIGCONT)
                for group in groups:
                    _signal(group, signal.SIGCONT)

    def _stuck(self) -> str:
        return stuck(self.process.pid, self._lent, [self.log] if self.log.exists() else [])

    @contextlib.contextmanager
    def _no_new_steps(self) -> Iterator[None]:
        """One test runs at a time, and of its runs one that is lent the interpreter."""
        if self._lent:
            self._lent.stop()
        try:
            yield
        finally:
            if self._lent:
                self._lent.go_on()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _session(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _socket_folder(host: int) -> Path | None:
    """What the host would remove if it were given the time: the folder its steps find `python3` in."""
    try:
        variables = Path(f"/proc/{host}/environ").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    path = next(value for name, _, value in (each.partition("=") for each in variables) if name == "PATH")
    folder = Path(path.split(os.pathsep)[0]).parent
    return folder if folder.name.startswith("crosscloud-") else None
