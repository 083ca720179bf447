"""Kubeflow's executor run plainly and through the fork server: whatever a step can see must be the same."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipelines import warm_interpreter
from pipelines.warm_interpreter.server import receive

pytestmark = pytest.mark.skipif(not warm_interpreter.SUPPORTED, reason="the fork server needs Linux")

EXECUTOR = "kfp.dsl.executor_main"


@dataclass
class Bench:
    """Runs components of one function, `step`, as Kubeflow's command line does."""

    folder: Path
    socket_path: Path
    environment: dict[str, str]
    server: subprocess.Popen[bytes] | None = None
    made: list[Path] = field(default_factory=list)

    def component(self, body: str) -> list[str]:
        """The interpreter's arguments that run a component with this body."""
        path = self.folder / "made" / f"component_{len(self.made)}.py"
        path.parent.mkdir(exist_ok=True)
        self.made.append(path)
        lines = textwrap.indent(textwrap.dedent(body).strip(), "    ")
        path.write_text(f"def step():\n{lines}\n", encoding="utf-8")
        outputs = {"outputs": {"outputFile": str(self.folder / "out" / "executor_output.json")}}
        return [
            "-m", EXECUTOR, "--component_module_path", str(path),
            "--executor_input", json.dumps(outputs), "--function_to_execute", "step",
        ]  # fmt: skip

    def shim(self) -> list[str]:
        """The command that stands in for `python3`."""
        return warm_interpreter.shim_command(sys.executable, self.socket_path)

    def start(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Starts a command in the bench's folder and environment, without input."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, within a minute."""
        process = self.start(command, environment)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def serve(self, modules: Sequence[str]) -> None:
        """Starts the fork server and waits until it listens."""
        self.server = subprocess.Popen(
            warm_interpreter.server_command(sys.executable, self.socket_path, modules),
            stdin=subprocess.PIPE,
            env=self.environment,
        )
        await_true(self.socket_path.exists)

    def close(self) -> None:
        """Lets the server go, as an owner that ends does."""
        if self.server is not None and self.server.stdin is not None:
            self.server.stdin.close()
            self.server.wait(10)


def await_true(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits until `condition` holds and fails the test if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def served_from(folder: Path, **variables: str) -> Iterator[Bench]:
    """A bench in an environment like that of a pipeline's step; its socket's path is short enough for one."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment = {**inherited, "_KFP_RUNTIME": "true", "PYTHONUNBUFFERED": "1", **variables}
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        bench = Bench(folder=folder, socket_path=Path(short) / "socket", environment=environment)
        yield bench
        bench.close()


@pytest.fixture(scope="module", params=["", "1"], ids=["python -m", "python -P -m"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A served bench, with the working directory on the module path and without."""
    with served_from(tmp_path_factory.mktemp("a working folder"), PYTHONSAFEPATH=request.param) as bench:
        bench.serve(["kfp.dsl.executor_main", "numpy.random", "a_module_that_is_not_installed"])
        yield bench


@pytest.fixture
def own_bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench of the test's own, whose server is not started yet."""
    with served_from(tmp_path) as bench:
        yield bench


IS_WARM = "__import__('sys').modules.get('pipelines.warm_interpreter.server') is not None"


def test_a_step_sees_the_interpreter_that_it_would_have_had(bench: Bench) -> None:
    step = bench.component(
        """
        import json, os, signal, sys, tempfile, threading
        seen = {
            "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "executable": sys.executable,
            "flags": repr(sys.flags), "main": sys.modules["__main__"].__spec__.name, "cwd": os.getcwd(),
            "environment": dict(os.environ), "temporary": tempfile.gettempdir(), "input": sys.stdin.read(),
            "descriptors": sorted(os.listdir("/proc/self/fd")), "threads": threading.active_count(),
            "warnings": sys.warnoptions, "encoding": sys.stdout.encoding,
            "unbuffered": sys.stdout.write_through, "child": repr(signal.getsignal(signal.SIGCHLD)),
            "interrupt": repr(signal.getsignal(signal.SIGINT)),
            "pipe": repr(signal.getsignal(signal.SIGPIPE)),
        }
        print("SEEN", json.dumps(seen))
        """
    )
    moved = {"TMPDIR": str(bench.folder), "A_VARIABLE": "µ = 1 ", "TZ": "Asia/Kolkata"}

    plainly, warmly = (
        json.loads(bench.run(command, moved).stdout.split("SEEN")[1].splitlines()[0])
        for command in ([sys.executable, *step], [*bench.shim(), *step])
    )

    assert warmly == plainly
    assert plainly["temporary"] == str(bench.folder)
    assert plainly["path"].count(str(bench.folder)) == (0 if bench.environment["PYTHONSAFEPATH"] else 1)


def test_what_is_compared_did_run_in_a_fork(bench: Bench) -> None:
    step = bench.component(f"print('WARM', {IS_WARM})")

    assert "WARM False" in bench.run([sys.executable, *step]).stdout
    assert "WARM True" in bench.run([*bench.shim(), *step]).stdout


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("pass", 0),
        ("raise SystemExit", 0),
        ("raise SystemExit(3)", 3),
        ("raise SystemExit(259)", 3),
        ("raise SystemExit(-1)", 255),
        ("raise SystemExit('no quorum')", 1),
        ("raise ValueError('one two three')", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("__import__('os')._exit(7)", 7),
        ("__import__('os').kill(__import__('os').getpid(), 15)", -signal.SIGTERM),
        ("__import__('os').kill(__import__('os').getpid(), 9)", -signal.SIGKILL),
    ],
)
def test_a_step_ends_as_it_would_have_ended(bench: Bench, body: str, status: int) -> None:
    step = bench.component(body)

    plainly = bench.run([sys.executable, *step])
    warmly = bench.run([*bench.shim(), *step])

    assert warmly.returncode == plainly.returncode == status
    assert warmly.stderr.splitlines()[-1:] == plainly.stderr.splitlines()[-1:]


def test_threads_exit_functions_and_finalizers_of_the_step_run(own_bench: Bench) -> None:
    own_bench.serve(["kfp.dsl.executor_main", "numpy"])
    step = own_bench.component(
        """
        import atexit, pathlib, tempfile, threading, time, weakref
        global kept
        kept = tempfile.TemporaryDirectory(dir=".")
        pathlib.Path("folder").write_text(kept.name)
        atexit.register(pathlib.Path("at exit").touch)
        threading.Thread(target=lambda: (time.sleep(0.3), pathlib.Path("in a thread").touch())).start()
        """
    )

    completed = own_bench.run([*own_bench.shim(), *step])

    assert completed.returncode == 0
    assert (own_bench.folder / "at exit").exists()
    assert (own_bench.folder / "in a thread").exists()
    assert not (own_bench.folder / (own_bench.folder / "folder").read_text()).exists()


def test_forks_share_no_random_state(bench: Bench) -> None:
    step = bench.component(
        """
        import os, random, numpy, tempfile
        print("DRAWN", random.random(), numpy.random.rand(), os.urandom(8).hex(), tempfile.mktemp())
        """
    )
    shim = [*bench.shim(), *step]

    first, second = (bench.run(shim).stdout.split("DRAWN")[1].split()[:4] for _ in range(2))

    assert not set(first) & set(second)


def test_native_thread_pools_work_in_a_fork(own_bench: Bench) -> None:
    for module in ("pyarrow", "torch"):
        pytest.importorskip(module)
    own_bench.environment |= {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    own_bench.serve(["kfp.dsl.executor_main", "numpy", "pyarrow.parquet", "torch"])
    step = own_bench.component(
        f"""
        import numpy, pyarrow, pyarrow.compute, pyarrow.parquet, torch
        assert {IS_WARM}
        pyarrow.parquet.write_table(pyarrow.table({{"n": range(200_000), "m": range(200_000)}}), "t.parquet")
        table = pyarrow.parquet.read_table("t.parquet", use_threads=True)
        assert pyarrow.compute.sum(table["n"]).as_py() == 200_000 * 199_999 // 2
        assert (numpy.ones((700, 700)) @ numpy.ones((700, 700))).sum() == 700**3
        assert torch.get_num_threads() == 2
        weights = torch.ones(700, 700, dtype=torch.float64, requires_grad=True)
        (weights @ weights).sum().backward()
        assert float(weights.grad.sum()) == 2 * 700**3
        """
    )

    for _ in range(2):
        completed = own_bench.run([*own_bench.shim(), *step])
        assert completed.returncode == 0, completed.stderr


@pytest.mark.parametrize(
    "variables",
    [{"OMP_NUM_THREADS": "3"}, {"PYTHONHASHSEED": "0"}, {"_KFP_RUNTIME": "false"}, {"LC_ALL": "POSIX"}],
    ids=lambda variables: next(iter(variables)),
)
def test_a_variable_that_could_take_effect_no_more_is_heeded_by_a_plain_interpreter(
    bench: Bench, variables: dict[str, str]
) -> None:
    step = bench.component(f"print('WARM', {IS_WARM})")

    assert "WARM False" in bench.run([*bench.shim(), *step], variables).stdout


def test_any_other_command_line_is_the_real_interpreter_s(bench: Bench) -> None:
    assert bench.run([*bench.shim(), "-c", f"print({IS_WARM})"]).stdout == "False\n"
    other_module = bench.run([*bench.shim(), "-m", "json.tool", "--help"])
    assert other_module.returncode == 0
    assert "json.tool" in other_module.stdout


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
    shim.wait(5)

    await_true(lambda: not is_running(pid), 2.0)
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
    _, errors = shim.communicate(timeout=5)

    await_true(lambda: not is_running(pid), 2.0)
    assert shim.returncode == 1
    assert "the warm interpreter ended" in errors


def test_server_and_steps_end_with_their_owner(own_bench: Bench) -> None:
    own_bench.serve(["kfp.dsl.executor_main"])
    shim, pid = started_step(own_bench)
    assert own_bench.server is not None
    assert own_bench.server.stdin is not None

    own_bench.server.stdin.close()

    assert own_bench.server.wait(5) == 0
    await_true(lambda: not is_running(pid), 2.0)
    shim.communicate(timeout=5)


def test_steps_run_side_by_side(bench: Bench) -> None:
    meet = """
        import pathlib, sys, time
        me, other = {0!r}, {1!r}
        pathlib.Path(me).touch()
        while not pathlib.Path(other).exists(): time.sleep(0.01)
        raise SystemExit({2})
        """
    one = bench.start([*bench.shim(), *bench.component(meet.format("one", "two", 11))])
    two = bench.start([*bench.shim(), *bench.component(meet.format("two", "one", 12))])

    for process, status in ((one, 11), (two, 12)):
        process.communicate(timeout=20)
        assert process.returncode == status


def test_requests_that_make_no_sense_are_declined(own_bench: Bench) -> None:
    own_bench.serve(["kfp.dsl.executor_main"])
    no_module = b"1\0-V\0/\0"
    for content in (
        len(no_module).to_bytes(4, "big") + no_module,
        (5).to_bytes(4, "big") + b"hello",
        (1 << 31).to_bytes(4, "big"),
    ):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(str(own_bench.socket_path))
            socket.send_fds(peer, [content], [0, 1, 2])
            assert peer.recv(1) == b"D"
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(own_bench.socket_path))
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert peer.recv(1) == b"D"

    assert (
        "WARM True"
        in own_bench.run([*own_bench.shim(), *own_bench.component(f"print('WARM', {IS_WARM})")]).stdout
    )


def test_other_users_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
        with pytest.raises(PermissionError, match="may not use the interpreter"):
            receive(ours)
