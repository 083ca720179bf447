"""The whole dispatcher, as a process, on the local server always and on a real cluster where there is one.

`KUBECONFIG=... pytest -m cluster` runs the second. CROSSCLOUD_TEST_IMAGE names an image with python3 that its
nodes can pull (python:3.11-slim unless said), CROSSCLOUD_TEST_NAMESPACE a namespace to use and not a new one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from components.execution.jobs.dispatch import run_job
from components.execution.jobs.ends import JobEnd
from components.execution.jobs.order import JobOrder
from components.execution.jobs.patience import Patience
from tests.components.execution.jobs.clusters import (
    ClusterUnderTest,
    RealCluster,
    local_cluster,
    real_cluster,
)

HAS_CLUSTER = bool(os.environ.get("KUBECONFIG"))
REAL = [
    pytest.mark.cluster,
    pytest.mark.skipif(not HAS_CLUSTER, reason="needs a Kubernetes API server: set KUBECONFIG"),
]
STARTS_S = 120
PROGRAM = """
import json, sys
from components.execution.jobs.dispatch import run_job
from components.execution.jobs.order import Cluster, JobOrder
from components.execution.jobs.patience import Patience
order, cluster, patience = map(json.loads, sys.argv[1:])
print(run_job(JobOrder(**order), Cluster(**cluster), patience=Patience(**patience)).reason)
"""


@pytest.fixture(scope="module", params=["local", pytest.param("real", marks=REAL)])
def tested(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterUnderTest]:
    """A cluster on which Jobs really run."""
    folder = tmp_path_factory.mktemp("cluster")
    if request.param == "local":
        with local_cluster(folder) as local:
            yield local
    else:
        with real_cluster(folder) as real:
            yield real


def order(step: str, deadline_s: int = 120) -> JobOrder:
    """One that nobody gave before."""
    return JobOrder(step=step, request=os.urandom(32).hex(), deadline_s=deadline_s)


def until(holds: Callable[[], object], what: str) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + STARTS_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def patience(tested: ClusterUnderTest) -> Patience:
    """For nodes as fast as these."""
    return Patience(start_grace_s=tested.start_grace_s, late_s=40, image_s=20, watch_s=10, look_s=1)


def dispatcher(tested: ClusterUnderTest, given: JobOrder) -> subprocess.Popen[str]:
    """A dispatcher as a process of its own, once its Job runs."""
    terms = [json.dumps(asdict(each)) for each in (given, tested.terms, patience(tested))]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *terms],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    until(lambda: tested.runs(given.job), "the Job does not run")
    return process


def test_a_job_that_is_done_is_not_done_again(tested: ClusterUnderTest) -> None:
    given = order("ingest")
    assert run_job(given, tested.terms, patience=patience(tested)) == JobEnd()
    first = tested.uid(given.job)
    assert run_job(given, tested.terms, patience=patience(tested)) == JobEnd(adopted=True)
    assert tested.uid(given.job) == first != ""


def test_a_job_that_failed_is_made_anew(tested: ClusterUnderTest) -> None:
    given = order("seal")
    assert run_job(given, tested.terms, patience=patience(tested)).reason == "failed: exit code 3"
    first = tested.uid(given.job)
    assert run_job(given, tested.terms, patience=patience(tested)).reason == "failed: exit code 3"
    assert tested.uid(given.job) not in {first, ""}


def test_a_job_that_exceeds_its_deadline_is_ended_by_its_cluster(tested: ClusterUnderTest) -> None:
    given = order("train", deadline_s=2)
    assert run_job(given, tested.terms, patience=patience(tested)).reason == "timeout: deadline of the Job"


def test_a_job_that_is_deleted_under_its_dispatcher(tested: ClusterUnderTest) -> None:
    given = order("train")
    process = dispatcher(tested, given)
    tested.delete(given.job)
    output, errors = process.communicate(timeout=STARTS_S)
    assert (output, process.returncode) == ("evicted: the Job was deleted\n", 0), errors


def test_a_job_whose_dispatcher_is_killed_is_adopted_by_the_next(tested: ClusterUnderTest) -> None:
    given = order("train")
    first = dispatcher(tested, given)
    first.kill()
    first.communicate()
    uid = tested.uid(given.job)
    second = dispatcher(tested, given)
    assert second.stderr is not None
    assert f"train: {given.job} adopted" in second.stderr.readline()
    assert tested.uid(given.job) == uid
    tested.delete(given.job)
    output, _ = second.communicate(timeout=STARTS_S)
    assert output == "evicted: the Job was deleted\n"


def test_a_dispatcher_that_is_ended_takes_its_job_along(tested: ClusterUnderTest) -> None:
    given = order("train")
    process = dispatcher(tested, given)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=STARTS_S)
    assert process.returncode == -signal.SIGTERM, errors
    until(lambda: tested.uid(given.job) == "", "the Job is still there")


@pytest.mark.parametrize("tested", [pytest.param("real", marks=REAL)], indirect=True)
def test_an_image_that_cannot_be_pulled(tested: RealCluster) -> None:
    with tested.image("registry.invalid/none:0"):
        reason = run_job(order("ingest"), tested.terms, patience=patience(tested)).reason
    assert reason in {"image: ErrImagePull", "image: ImagePullBackOff"}


@pytest.mark.parametrize("tested", [pytest.param("real", marks=REAL)], indirect=True)
def test_a_quota_that_is_used_up(tested: RealCluster) -> None:
    with tested.quota({"count/jobs.batch": "0"}):
        assert run_job(order("ingest"), tested.terms, patience=patience(tested)).reason == "denied: quota"
