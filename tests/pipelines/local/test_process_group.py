"""Whatever ends the parent, the host, a shim or a listener: no process and no folder stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.local import LocalRunner, RunOutcome, StepEvent
from pipelines.local.process_group import end_group, remove_folders
from tests.pipelines.local.conftest import MODULES

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def await_true(condition: Callable[[], bool], seconds: float) -> None:
    """Waits until `condition` holds and fails the test if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def session_of(pid: int) -> int:
    """The session a process belongs to; 0 when it has ended, though its parent may not know yet."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[3])


def alive_in(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if session_of(pid) == session]


def command_line(pid: int) -> str:
    """A process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def socket_folder(session: int) -> Path:
    """The folder that the session's steps find their `python3` in."""
    variables = Path(f"/proc/{session}/environ").read_text().split("\0")
    (path,) = (value for name, _, value in (each.partition("=") for each in variables) if name == "PATH")
    return Path(path.split(os.pathsep)[0]).parent


PARENT = """
    import sys
    from pathlib import Path
    from pipelines.local import LocalRunner

    folder, spec, warm, modules = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "warm", sys.argv[4:]
    with LocalRunner(home=folder / "home", log_path=folder / "log", warm=warm, modules=modules) as runner:
        runner.run(
            spec,
            {"pid_file": str(folder / "pid")},
            pipeline_root=folder / "root",
            on_event=lambda event: print(event.message, flush=True),
        )
"""


@needs_proc
@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("warm", signal.SIGKILL),
        ("plain", signal.SIGKILL),
        ("plain", signal.SIGTERM),
        ("plain", signal.SIGHUP),
        ("warm", signal.SIGINT),
    ],
)
def test_nothing_outlives_the_parent(tmp_path: Path, specs: Path, how: str, number: int) -> None:
    parent_of = [sys.executable, "-c", textwrap.dedent(PARENT)]
    command = [*parent_of, str(tmp_path), str(specs / "working.yaml"), how, *MODULES]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert parent.stdout is not None
    assert any(line == "begun\n" for line in parent.stdout)
    session = session_of(int((tmp_path / "pid").read_text()))
    sockets = socket_folder(session)
    assert sockets.is_dir()
    # The host, the step's shell and the step; and the server and the shim.
    assert len(alive_in(session)) == (5 if how == "warm" else 3)

    parent.send_signal(number)

    parent.communicate(timeout=60)
    assert parent.returncode == -number
    await_true(lambda: alive_in(session) == [], 30.0)
    await_true(lambda: not sockets.exists(), 30.0)
    await_true(lambda: list((tmp_path / "home").iterdir()) == [], 30.0)


class Interrupted:
    """A run of the pipeline whose step sleeps, and what to do once it does."""

    def __init__(self, folder: Path, specs: Path, *, warm: bool) -> None:
        self.folder, self.specs = folder, specs
        self.log = folder / "log"
        self.runner = LocalRunner(home=folder / "home", log_path=self.log, warm=warm, modules=MODULES)
        self.step = self.session = 0

    def run(self, interrupt: Callable[[], None]) -> RunOutcome:
        def on_event(event: StepEvent) -> None:
            if event.message == "begun":
                self.step = int((self.folder / "pid").read_text())
                self.session = session_of(self.step)
                interrupt()

        spec = self.specs / "working.yaml"
        arguments = {"pid_file": str(self.folder / "pid")}
        return self.runner.run(spec, arguments, pipeline_root=self.folder / "root", on_event=on_event)

    def still_runs(self) -> bool:
        spec = self.specs / "greetings.yaml"
        return self.runner.run(spec, {}, pipeline_root=self.folder / "root afterwards").succeeded


@pytest.fixture(params=[False, True], ids=["plain", "warm"])
def interrupted(request: pytest.FixtureRequest, tmp_path: Path, specs: Path) -> Iterator[Interrupted]:
    interrupted = Interrupted(tmp_path, specs, warm=request.param)
    with interrupted.runner:
        yield interrupted


@needs_proc
def test_killing_the_host_ends_its_steps_and_is_told(interrupted: Interrupted) -> None:
    outcome = interrupted.run(lambda: os.kill(interrupted.session, signal.SIGKILL))

    assert not outcome.succeeded
    assert outcome.error == (
        f"the process that runs the steps ended (killed by SIGKILL); see {interrupted.log}"
    )
    await_true(lambda: alive_in(interrupted.session) == [], 30.0)
    assert interrupted.still_runs()


@needs_proc
@pytest.mark.parametrize("interrupted", [False], indirect=True, ids=["plain"])
def test_an_exception_of_the_listener_ends_the_run(interrupted: Interrupted) -> None:
    def lose_the_console() -> None:
        raise BrokenPipeError("the console has gone")

    with pytest.raises(BrokenPipeError, match="the console has gone"):
        interrupted.run(lose_the_console)

    await_true(lambda: alive_in(interrupted.session) == [], 30.0)
    assert interrupted.still_runs()


@needs_proc
def test_killing_what_stands_for_python3_ends_the_step_alone(interrupted: Interrupted) -> None:
    def kill_the_stand_in() -> None:
        stand_ins = [pid for pid in alive_in(interrupted.session) if "shim.py" in command_line(pid)]
        os.kill(stand_ins[0] if stand_ins else interrupted.step, signal.SIGKILL)

    outcome = interrupted.run(kill_the_stand_in)

    assert outcome.error == f"step 'work' failed; see {interrupted.log}"
    await_true(lambda: session_of(interrupted.step) == 0, 30.0)
    assert interrupted.still_runs()


def test_ending_a_group_that_has_ended_is_no_error(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"], start_new_session=True)
    process.wait()
    end_group(process.pid)
    remove_folders([tmp_path / "never made"])


def test_folders_go_even_while_something_still_writes_into_them(tmp_path: Path) -> None:
    folder = tmp_path / "busy"
    folder.mkdir()
    for number in range(3000):  # so many that files are added while these are removed
        (folder / f"file {number}").touch()
    script = 'i=0; while :; do i=$((i+1)); : > "$0/$i" || exit; done'
    writer = subprocess.Popen(["sh", "-c", script, str(folder)], stderr=subprocess.DEVNULL)
    await_true((folder / "1").exists, 30.0)

    threading.Timer(0.3, writer.kill).start()
    remove_folders([folder])

    writer.wait()
    assert not folder.exists()
