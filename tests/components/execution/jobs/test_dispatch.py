"""The dispatcher as a process of its own: ended by signals, killed, followed by another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from components.execution.jobs.client import ClusterClient
from components.execution.jobs.dispatch import cancel, run_job
from components.execution.jobs.ends import JobEnd
from components.execution.jobs.order import Cluster
from components.execution.jobs.patience import Patience
from tests.components.execution.jobs.conftest import NAMESPACE, SWIFT, TRAIN, made_before
from tests.jobs_api.process_runner import ProcessRunner
from tests.jobs_api.server import JobsServer

PROGRAM = """
import json, sys
from components.execution.jobs.dispatch import run_job
from components.execution.jobs.order import Cluster, JobOrder
from components.execution.jobs.patience import Patience
order, cluster, patience = map(json.loads, sys.argv[1:])
print(run_job(JobOrder(**order), Cluster(**cluster), patience=Patience(**patience)).reason)
"""

LOST = """
import os
from components.execution.jobs.client import ClusterClient
from components.execution.jobs.refusals import ClusterDeniedError as Denied

ClusterDeniedError = lambda told: Denied(told, disclosed=told)

def breaks(*_):
    try:
        os.kill(os.getpid(), {number})
    except BaseException:
        raise {broken}("the connection broke at the same time") from None

ClusterClient.changes = breaks
"""
"""A watch whose connection breaks as the signal comes: its error is put in the place of the signal's."""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(cluster: Cluster) -> Iterator[Start]:
    """Starts a dispatcher."""
    begun: list[subprocess.Popen[str]] = []

    def start_one(patience: Patience = SWIFT, before: str = "") -> subprocess.Popen[str]:
        terms = [json.dumps(asdict(each)) for each in (TRAIN, cluster, patience)]
        begun.append(
            subprocess.Popen(
                [sys.executable, "-c", before + PROGRAM, *terms],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            )
        )
        return begun[-1]

    yield start_one
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def sleeper(server: JobsServer, tmp_path: Path) -> ProcessRunner:
    """Nodes on which every step sleeps for a minute."""
    (tmp_path / "python3").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "python3").chmod(0o755)
    runner = ProcessRunner(tmp_path / "jobs", python=str(tmp_path / "python3"))
    server.controller.runner = runner
    return runner


def until(holds: Callable[[], object], what: str) -> None:
    """Waits until something is so, for a minute at most."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether a process is there, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def watched(server: JobsServer) -> bool:
    """Whether the dispatcher is in its watch."""
    return server.faults.count("watch jobs.batch") > 0


def step_of(nodes: ProcessRunner) -> int:
    """The process of the only step, once a node has started it: the watch may be there before."""
    until(lambda: nodes.pids, "no node started the step")
    (step,) = nodes.pids.values()
    return step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_the_job_and_ends_the_process(
    server: JobsServer, start: Start, sleeper: ProcessRunner, number: signal.Signals
) -> None:
    process = start()
    until(lambda: watched(server), "no watch was opened")
    step = step_of(sleeper)
    assert lives(step)
    process.send_signal(number)
    output, errors = process.communicate(timeout=90)
    assert process.returncode == -number, errors
    assert output == ""
    assert "train: crosscloud-train-0123456789abcdef0123 cancelled" in errors
    assert server.jobs(NAMESPACE) == []
    until(lambda: not lives(step), "the step still runs")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("broken", ["ConnectionError", "ClusterDeniedError"])
def test_a_signal_whose_exception_is_lost_is_heeded_all_the_same(
    server: JobsServer, start: Start, sleeper: ProcessRunner, number: signal.Signals, broken: str
) -> None:
    """Whether the watch would begin again after that error or be given up."""
    process = start(before=LOST.format(number=int(number), broken=broken))
    output, errors = process.communicate(timeout=90)
    assert process.returncode == -number, errors
    assert output == ""
    assert "train: crosscloud-train-0123456789abcdef0123 cancelled" in errors
    assert server.jobs(NAMESPACE) == []


def test_a_second_signal_does_not_break_off_the_cancelling(
    server: JobsServer, start: Start, sleeper: ProcessRunner
) -> None:
    process = start()
    until(lambda: watched(server), "no watch was opened")
    server.faults.drop("delete jobs.batch", seconds=0.5)
    for _ in range(20):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
    until(lambda: server.faults.count("delete jobs.batch"), "nothing was deleted")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=90)
    assert process.returncode == -signal.SIGTERM
    assert server.jobs(NAMESPACE) == []


def test_a_signal_during_creation_leaves_no_job(
    server: JobsServer, start: Start, sleeper: ProcessRunner
) -> None:
    server.faults.delay("create jobs.batch", seconds=0.6)
    process = start()
    until(lambda: server.faults.count("create jobs.batch"), "no Job was asked for")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=90)
    assert process.returncode == -signal.SIGTERM
    # The API server goes on with a request whose sender has gone.
    time.sleep(0.8)
    assert server.jobs(NAMESPACE) == []


def test_a_signal_while_the_api_server_is_away_ends_the_process_all_the_same(
    server: JobsServer, start: Start, sleeper: ProcessRunner
) -> None:
    # It must not give up by itself before the signal comes, however slow the machine is.
    process = start(replace(SWIFT, unreachable_s=600.0))
    until(lambda: watched(server), "no watch was opened")
    server.stop()
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, errors = process.communicate(timeout=90)
    assert process.returncode == -signal.SIGTERM
    assert time.monotonic() - began < 60
    assert "may still run (unreachable: API server)" in errors


def test_a_killed_dispatcher_leaves_the_job_to_the_next(
    server: JobsServer, start: Start, sleeper: ProcessRunner
) -> None:
    first = start()
    until(lambda: watched(server), "no watch was opened")
    step = step_of(sleeper)
    (job,) = server.jobs(NAMESPACE)
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=20)
    assert lives(step)
    before = server.faults.count("watch jobs.batch")
    second = start()
    until(lambda: server.faults.count("watch jobs.batch") > before, "no second watch was opened")
    os.killpg(step, signal.SIGTERM)
    output, errors = second.communicate(timeout=90)
    assert "crosscloud-train-0123456789abcdef0123 adopted" in errors
    assert output == "failed: exit code 143\n"
    assert second.returncode == 0
    assert [each["metadata"]["uid"] for each in server.jobs(NAMESPACE)] == [job["metadata"]["uid"]]
    assert server.faults.count("create jobs.batch") == 1
    assert list(sleeper.pids.values()) == [step]


def test_the_handler_of_before_is_put_back(server: JobsServer, cluster: Cluster) -> None:
    from tests.components.execution.jobs.conftest import completes

    server.controller.runner = completes
    before = signal.getsignal(signal.SIGTERM)
    assert run_job(TRAIN, cluster, patience=SWIFT) == JobEnd()
    assert signal.getsignal(signal.SIGTERM) is before


def test_cancelling_leaves_a_job_of_another_request_alone(server: JobsServer, client: ClusterClient) -> None:
    other = made_before(server, args=["train", "f" * 64])
    assert cancel(client, TRAIN)
    assert server.job(NAMESPACE, TRAIN.job)["metadata"]["uid"] == other["metadata"]["uid"]
    assert server.faults.count("delete jobs.batch") == 0


def test_cancelling_twice_is_no_error(server: JobsServer, client: ClusterClient) -> None:
    made_before(server)
    assert cancel(client, TRAIN)
    assert cancel(client, TRAIN)
    assert server.jobs(NAMESPACE) == []
