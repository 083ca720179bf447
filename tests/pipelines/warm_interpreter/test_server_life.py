"""Who ends when: the fork server, its owner, the shims and the steps that they stand for."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from pipelines import warm_interpreter
from pipelines.warm_interpreter import server
from tests.pipelines.warm_interpreter.bench import IS_WARM, Bench, await_true

pytestmark = pytest.mark.skipif(not warm_interpreter.SUPPORTED, reason="the fork server needs Linux")


def test_without_a_server_the_step_runs_plainly(own_bench: Bench) -> None:
    step = own_bench.component(f"print('WARM', {IS_WARM})")
    shim = [*own_bench.shim(), *step]

    assert "WARM False" in own_bench.run(shim).stdout
    own_bench.serve(["kfp.dsl.executor_main"])
    assert "WARM True" in own_bench.run(shim).stdout
    own_bench.close()
    assert own_bench.socket_path.exists()
    assert "WARM False" in own_bench.run(shim).stdout


def test_a_step_that_waits_for_a_server_that_breaks_runs_plainly(own_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import time; time.sleep(1); raise OSError('library missing')")
    own_bench.environment["PYTHONPATH"] = str(tmp_path)
    own_bench.serve(["broken"])
    step = own_bench.component(f"print('WARM', {IS_WARM})")

    completed = own_bench.run([*own_bench.shim(), *step])

    assert completed.returncode == 0
    assert "WARM False" in completed.stdout


SLEEPING_STEP = (
    "import os, pathlib, time; pathlib.Path('pid').write_text(f'{os.getpid()}\\n'); time.sleep(60)"
)


def started_step(bench: Bench) -> tuple[subprocess.Popen[str], int]:
    """A shim whose step sleeps, and the step's process id."""
    shim = bench.start([*bench.shim(), *bench.component(SLEEPING_STEP)])
    written = bench.folder / "pid"
    await_true(lambda: written.exists() and written.read_text().endswith("\n"))
    return shim, int(written.read_text())


def is_running(pid: int) -> bool:
    """Whether a process exists and has not ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killing_the_shim_kills_the_step_and_nothing_else(own_bench: Bench, number: int) -> None:
    own_bench.serve(["kfp.dsl.executor_main"])
    shim, pid = started_step(own_bench)
    assert is_running(pid)

    shim.send_signal(number)
    shim.wait(60)

    await_true(lambda: not is_running(pid), 30.0)
    assert shim.returncode == -number
    assert (
        "WARM True"
        in own_bench.run([*own_bench.shim(), *own_bench.component(f"print('WARM', {IS_WARM})")]).stdout
    )


def test_steps_end_with_the_server_and_are_not_run_again(own_bench: Bench) -> None:
    own_bench.serve(["kfp.dsl.executor_main"])
    shim, pid = started_step(own_bench)
    assert own_bench.server is not None

    own_bench.server.kill()
    own_bench.server.wait()
    _, errors = shim.communicate(timeout=60)

    await_true(lambda: not is_running(pid), 30.0)
    assert shim.returncode == 1
    assert "the warm interpreter ended" in errors


def test_a_server_that_ends_as_it_starts_a_step_has_not_run_it(own_bench: Bench, tmp_path: Path) -> None:
    """It is killed between the fork and its answer: the shim has heard nothing and runs the step itself."""
    dies = "time.sleep(2); os.kill(os.getpid(), signal.SIGKILL)"
    (tmp_path / "breaking.py").write_text(
        "import os, signal, time\nfrom pipelines.warm_interpreter import server\n"
        f"def answer(connection, content):\n    {dies}\nserver._answer = answer\n"
    )
    own_bench.environment["PYTHONPATH"] = str(tmp_path)
    own_bench.serve(["kfp.dsl.executor_main", "breaking"])
    step = own_bench.component(f"with open('runs', 'a') as runs: print('WARM', {IS_WARM}, file=runs)")

    completed = own_bench.run([*own_bench.shim(), *step])

    assert completed.returncode == 0, completed.stderr
    assert (own_bench.folder / "runs").read_text() == "WARM False\n"


def test_server_and_steps_end_with_their_owner(own_bench: Bench) -> None:
    own_bench.serve(["kfp.dsl.executor_main"])
    shim, pid = started_step(own_bench)
    assert own_bench.server is not None
    assert own_bench.server.stdin is not None

    own_bench.server.stdin.close()

    assert own_bench.server.wait(60) == 0
    await_true(lambda: not is_running(pid), 30.0)
    shim.communicate(timeout=60)


class ListenedError(Exception):
    """Ends a server as it begins to listen."""


def test_whoever_sees_its_socket_can_connect(own_bench: Bench) -> None:
    """Until it listens it has another name, which is not longer."""
    seen: list[str] = []

    class Listener(socket.socket):
        def listen(self, _backlog: int = 0, /) -> None:
            seen.append(self.getsockname())
            assert not own_bench.socket_path.exists()
            raise ListenedError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket, "socket", Listener)
        patched.setattr(sys, "argv", ["-c", str(own_bench.socket_path), "json"])
        patched.setattr(sys, "path", list(sys.path))
        with pytest.raises(ListenedError):
            server.main()
    (name,) = seen
    assert len(name) <= len(str(own_bench.socket_path))
