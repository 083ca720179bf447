"""The command as people type it, killed where a test wants it, and finished runs that tests share."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from pipelines.local.tasks import read_tasks
from tests.conftest import SmallFederation, write_warehouse

COMMAND = (sys.executable, "-c", "from pipelines.cli import main; main()")
PATIENCE = 180.0
ROWS = {"alpha": 41, "beta": 66, "gamma": 102}
_STARTS = re.compile(r"Executing task '([^']+)'")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A federation after a command that nobody may change, and what the command printed."""

    federation: SmallFederation
    command: subprocess.CompletedProcess[str]


@dataclass(kw_only=True)
class FinishedRuns:
    """The runs that this session has paid for already."""

    folder: Path
    found: dict[str, FinishedRun] = field(default_factory=dict)


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> FinishedRuns:
    return FinishedRuns(folder=tmp_path_factory.mktemp("finished"))


@pytest.fixture
def one_round(small_federation: Callable[..., SmallFederation], finished_runs: FinishedRuns) -> FinishedRun:
    """One round under `he`, run by the first test that asks for it. To be read only."""
    if "one" not in finished_runs.found:
        made = small_federation()
        for seed, (name, rows) in enumerate(ROWS.items()):
            made.warehouse(name).unlink()
            write_warehouse(made.warehouse(name), rows, seed=seed)
        federation = moved(made, finished_runs.folder / "one")
        command = typed("run", str(federation.path), home=federation.home)
        finished_runs.found["one"] = FinishedRun(federation=federation, command=command)
    return finished_runs.found["one"]


@pytest.fixture
def three_rounds(one_round: FinishedRun, finished_runs: FinishedRuns) -> FinishedRun:
    """The same federation after two more rounds under `none`, by one command. To be read only."""
    if "three" not in finished_runs.found:
        federation = copied(one_round.federation, finished_runs.folder / "three")
        words = ("run", str(federation.path), "--rounds", "2", "--method", "fedavg")
        command = typed(*words, home=federation.home)
        finished_runs.found["three"] = FinishedRun(federation=federation, command=command)
    return finished_runs.found["three"]


@pytest.fixture
def after_one_round(
    one_round: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SmallFederation:
    """A copy of the federation after its first round, to be changed; CROSSCLOUD_HOME is its home."""
    federation = copied(one_round.federation, tmp_path / "copy")
    monkeypatch.setenv("CROSSCLOUD_HOME", str(federation.home))
    return federation


def copied(federation: SmallFederation, folder: Path) -> SmallFederation:
    """The federation with a home of its own: addresses are relative to it."""
    folder.mkdir(parents=True)
    shutil.copytree(federation.home, folder / "home")
    made = SmallFederation(
        home=folder / "home",
        path=folder / federation.path.name,
        document=copy.deepcopy(federation.document),
    )
    made.save()
    return made


def moved(federation: SmallFederation, folder: Path) -> SmallFederation:
    """As `copied`, leaving nothing behind."""
    made = copied(federation, folder)
    shutil.rmtree(federation.home)
    federation.path.unlink()
    return made


def typed(*words: str, home: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Types `crosscloud` and these words, in a process of its own, and waits."""
    return subprocess.run(
        [*COMMAND, *words],
        cwd=home.parent,
        env=os.environ | {"CROSSCLOUD_HOME": str(home), "COLUMNS": "200"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class RunInProgress:
    """`crosscloud run` in a process group of its own, followed through the log it writes."""

    def __init__(self, federation: SmallFederation) -> None:
        self._runs = federation.home / federation.document["federation"] / "runs"
        self._earlier = set(self._runs.glob("*"))
        self._titles: dict[str, str] = {}
        self.process = subprocess.Popen(
            [*COMMAND, "run", str(federation.path)],
            cwd=federation.home.parent,
            env=os.environ | {"CROSSCLOUD_HOME": str(federation.home), "COLUMNS": "200"},
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
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{step} never started: {self.process.communicate()}")
            time.sleep(0.002)

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
        return [*groups, *(child for child in _children(self.process.pid) if _session(child) == child)]

    def kill(self) -> None:
        """Ends every process of the run at once, as a machine that loses power would."""
        groups = self.groups
        folders = [_socket_folder(group) for group in groups[1:]]
        for group in groups:
            _signal(group, signal.SIGKILL)
        self.process.wait()
        for folder in filter(None, folders):
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops every process of the run in its tracks, and lets it go on at the end."""
        groups = self.groups
        for group in groups:
            _signal(group, signal.SIGSTOP)
        try:
            yield
        finally:
            for group in groups:
                _signal(group, signal.SIGCONT)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


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
