"""Kubeflow's executor run plainly and through the fork server: whatever a step can see must be the same."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import warm_interpreter
from pipelines.warm_interpreter.server import receive
from tests.pipelines.warm_interpreter.bench import IS_WARM, Bench

pytestmark = pytest.mark.skipif(not warm_interpreter.SUPPORTED, reason="the fork server needs Linux")


@pytest.fixture(scope="module")
def ended_plainly() -> dict[str, subprocess.CompletedProcess[str]]:
    """What the interpreter did with the bodies that were run without a server."""
    return {}


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
def test_a_step_ends_as_it_would_have_ended(
    bench: Bench, ended_plainly: dict[str, subprocess.CompletedProcess[str]], body: str, status: int
) -> None:
    """How a plain interpreter ends does not depend on where it looks for modules: each is asked once."""
    step = bench.component(body)

    if body not in ended_plainly:
        ended_plainly[body] = bench.run([sys.executable, *step])
    plainly = ended_plainly[body]
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
    assert own_bench.server is not None
    assert len(list(Path(f"/proc/{own_bench.server.pid}/task").iterdir())) == 1, "a fork inherits its locks"


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
        process.communicate(timeout=90)
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
