"""The command as people type it, and finished runs that tests share."""

from __future__ import annotations

import copy
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipelines.chartering import ensure_charter
from pipelines.federation import load_federation
from tests.conftest import SITES, SmallFederation
from tests.pipelines.chartered import Chartered
from tests.pipelines.lent_interpreter import end_lent, lent, stuck
from tests.pipelines.round_in_process import RoundInProcess
from tests.pipelines.run_in_progress import COMMAND, PATIENCE, RunInProgress

ROWS = {"alpha": 41, "beta": 66, "gamma": 102}


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
    in_process: dict[str, SmallFederation] = field(default_factory=dict)
    """By protection, or by what had happened to them (`test_life`, `test_taking_back`)."""


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> FinishedRuns:
    return FinishedRuns(folder=tmp_path_factory.mktemp("finished"))


@pytest.fixture
def chartered(small_federation: Callable[..., SmallFederation]) -> Chartered:
    made = small_federation(rows=0)
    return Chartered(made=made, charter=ensure_charter(load_federation(made.path)))


@pytest.fixture(scope="session", autouse=True)
def lent_until_the_end() -> Iterator[None]:
    """What runs are lent ends with the tests."""
    yield
    end_lent()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the test processes of this session have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture
def one_round(
    small_federation: Callable[..., SmallFederation],
    finished_runs: FinishedRuns,
    tiny_encoder: Path,
    shared: Path,
) -> FinishedRun:
    """One round under `sealed`, run by the first test of all processes that asks for it. To be read only.

    It is lent nothing: all of it is as people have it.
    """

    def run(folder: Path) -> FinishedRun:
        made = small_federation(list(ROWS.values()))
        shutil.copytree(tiny_encoder, folder / "encoder")
        made.document["encoder"]["name"] = str(folder / "encoder")
        federation = moved(made, folder / "federation")
        command = typed("run", str(federation.path), home=federation.home, plainly=True)
        return FinishedRun(federation=federation, command=command)

    if "one" not in finished_runs.found:
        finished_runs.found["one"] = run_once(shared / "one-round", run)
    return finished_runs.found["one"]


def run_once(folder: Path, run: Callable[[Path], FinishedRun]) -> FinishedRun:
    """What `run` makes in a folder that all test processes have: the first to come makes it, others wait."""
    told = folder.with_suffix(".json")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if told.exists():
            kept = json.loads(told.read_text())
            return FinishedRun(
                federation=SmallFederation(
                    home=Path(kept["home"]), path=Path(kept["path"]), document=kept["document"]
                ),
                command=subprocess.CompletedProcess(**kept["command"]),
            )
        shutil.rmtree(folder, ignore_errors=True)
        made = run(folder)
        federation, command = made.federation, made.command
        said = {name: getattr(command, name) for name in ("args", "returncode", "stdout", "stderr")}
        kept = {"home": str(federation.home), "path": str(federation.path), "document": federation.document}
        told.write_text(json.dumps(kept | {"command": said}))
        return made


@pytest.fixture
def three_rounds(one_round: FinishedRun, finished_runs: FinishedRuns, shared: Path) -> FinishedRun:
    """The same federation after two more rounds by one command. To be read only.

    While a sum is opened, what the sites have drawn for that round lies in `secrets/2` and `secrets/3`
    beside the home: nothing is left of it there.
    """

    def run_two(folder: Path) -> FinishedRun:
        federation = copied(one_round.federation, folder)
        with RunInProgress(federation, "--rounds", "2") as run:
            for nth in (1, 2):
                run.await_start("open", nth=nth)
                with run.paused():
                    for site in SITES:
                        drawn = federation.home / f"small/sites/{site}/store/secrets"
                        shutil.copytree(drawn, federation.home.parent / f"secrets/{nth + 1}/{site}")
            command = run.ended()
        return FinishedRun(federation=federation, command=command)

    if "three" not in finished_runs.found:
        finished_runs.found["three"] = run_once(shared / "three-rounds", run_two)
    return finished_runs.found["three"]


RoundUnder = Callable[[str], SmallFederation]


@pytest.fixture
def round_under(small_federation: Callable[..., SmallFederation], finished_runs: FinishedRuns) -> RoundUnder:
    """A federation after one round in process under a protection, made once. To be read only."""

    def finished(protection: str) -> SmallFederation:
        if protection not in finished_runs.in_process:
            made = small_federation(list(ROWS.values()), protection=protection)
            RoundInProcess(made).finish()
            finished_runs.in_process[protection] = moved(made, finished_runs.folder / protection)
        return finished_runs.in_process[protection]

    return finished


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


def typed(
    *words: str, home: Path, stdin: str = "", plainly: bool = False
) -> subprocess.CompletedProcess[str]:
    """Types `crosscloud` and these words, in a process of its own, and waits.

    A run is lent the session's interpreter (`lent_interpreter`), but `plainly`.
    """
    interpreter = lent() if words[0] == "run" and not plainly else None
    with subprocess.Popen(
        [*(interpreter.command() if interpreter else COMMAND), *words],
        cwd=home.parent,
        env=(interpreter.environment_now() if interpreter else dict(os.environ))
        | {"CROSSCLOUD_HOME": str(home), "COLUMNS": "200"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout=PATIENCE)
        except subprocess.TimeoutExpired as late:
            logs = sorted(home.glob("*/runs/*/log.txt"), key=lambda log: log.stat().st_mtime)
            seen = stuck(process.pid, interpreter, logs[-1:])
            process.kill()
            pytest.fail(f"{late}\n{seen}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
