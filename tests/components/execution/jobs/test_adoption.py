"""One Job for one request, whoever asks and how often."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.execution.jobs.adoption import create_or_adopt
from components.execution.jobs.client import ClusterClient, open_cluster
from components.execution.jobs.ends import JobEnd
from components.execution.jobs.order import Accelerator, Cluster, JobOrder
from components.execution.jobs.refusals import JobRefusedError
from tests.components.execution.jobs.conftest import NAMESPACE, REQUEST, SWIFT, TRAIN, completes, made_before
from tests.jobs_api.controller import Controller
from tests.jobs_api.objects import JOBS, PODS, Object
from tests.jobs_api.server import JobsServer

Run = Callable[..., JobEnd]


def test_a_job_is_created_from_the_sites_template(server: JobsServer, run: Run) -> None:
    order = JobOrder(
        step="train",
        request=REQUEST,
        deadline_s=30,
        accelerator=Accelerator(type="nvidia.com/gpu", count=1),
    )
    assert run(completes, order=order) == JobEnd(reason="", adopted=False)
    (job,) = server.jobs(NAMESPACE)
    assert job["metadata"]["name"] == f"crosscloud-train-{REQUEST[:20]}"
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["train", REQUEST]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_running_job_is_adopted(server: JobsServer, run: Run) -> None:
    job = made_before(server)
    server.controller.pend(job)
    server.controller.run(job)
    threading.Timer(0.3, server.controller.end, (job,)).start()
    assert run() == JobEnd(reason="", adopted=True)
    assert server.faults.count("create jobs.batch") == 0
    assert server.faults.count("get configmaps") == 0
    assert server.job(NAMESPACE, TRAIN.job)["metadata"]["uid"] == job["metadata"]["uid"]


def test_a_completed_job_is_reported_again(server: JobsServer, run: Run) -> None:
    job = made_before(server)
    completes(server.controller, job)
    assert run() == JobEnd(reason="", adopted=True)
    assert server.faults.count("create jobs.batch") == server.faults.count("delete jobs.batch") == 0


def leave(found: Object) -> None:
    found["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.org/held"]}


def test_a_completed_job_whose_time_to_live_is_over_is_reported_again(server: JobsServer, run: Run) -> None:
    job = made_before(server)
    completes(server.controller, job)
    server.objects.update(JOBS, NAMESPACE, TRAIN.job, leave)
    assert run() == JobEnd(reason="", adopted=True)


def failed(controller: Controller, job: Object) -> None:
    controller.pend(job)
    controller.run(job)
    controller.end(job, 1)


def evicted(controller: Controller, job: Object) -> None:
    controller.pend(job)
    controller.evict(job)


@pytest.mark.parametrize("end", [failed, evicted], ids=["failed", "evicted"])
def test_a_job_that_failed_before_is_made_anew(
    server: JobsServer, run: Run, end: Callable[[Controller, Object], None]
) -> None:
    before = made_before(server)
    end(server.controller, before)
    assert run(completes) == JobEnd(reason="", adopted=False)
    (job,) = server.jobs(NAMESPACE)
    assert job["metadata"]["uid"] != before["metadata"]["uid"]
    uids = {pod["metadata"]["labels"]["controller-uid"] for pod in server.objects.list(PODS, NAMESPACE)}
    assert uids == {job["metadata"]["uid"]}, "pods of the Job before must be gone"


def test_a_job_that_is_being_deleted_is_waited_for(server: JobsServer, run: Run) -> None:
    before = made_before(server)
    server.controller.run(before)
    server.controller.delete(before, "Foreground")
    assert run(completes) == JobEnd(reason="", adopted=False)
    assert server.job(NAMESPACE, TRAIN.job)["metadata"]["uid"] != before["metadata"]["uid"]
    assert server.faults.count("delete jobs.batch") == 0


def test_a_job_that_never_goes_ends_the_wait(server: JobsServer, run: Run) -> None:
    made_before(server)
    server.objects.update(JOBS, NAMESPACE, TRAIN.job, leave)
    patience = replace(SWIFT, gone_s=0.5)
    assert run(completes, patience=patience).reason == "failed: the Job before it is not gone"
    assert server.faults.count("create jobs.batch") == 0


@pytest.mark.parametrize("arguments", [["train", "f" * 64], ["seal", REQUEST], ["train", REQUEST, "x"], []])
def test_a_job_that_does_another_request_is_left_alone(
    server: JobsServer, run: Run, arguments: list[str]
) -> None:
    other = made_before(server, args=arguments)
    failed(server.controller, other)
    assert run(completes).reason == "failed: another Job has its name"
    assert server.job(NAMESPACE, TRAIN.job)["metadata"]["uid"] == other["metadata"]["uid"]


def test_a_creation_whose_answer_is_lost_makes_one_job(server: JobsServer, run: Run) -> None:
    server.faults.lose_answers("create jobs.batch")
    assert run(completes).reason == ""
    assert server.faults.count("create jobs.batch") == 2
    assert len(server.jobs(NAMESPACE)) == 1


def test_two_dispatchers_at_once_make_one_job(server: JobsServer, cluster: Cluster) -> None:
    found: list[tuple[str, bool]] = []

    def create() -> None:
        job, adopted = create_or_adopt(open_cluster(cluster, patience=SWIFT), TRAIN)
        found.append((job["metadata"]["uid"], adopted))

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({uid for uid, _ in found}) == 1
    assert sorted(adopted for _, adopted in found) == [False] + [True] * 5


def test_a_failed_job_is_deleted_by_its_uid_only(server: JobsServer, client: ClusterClient) -> None:
    before = made_before(server)
    failed(server.controller, before)
    server.objects.remove(JOBS, NAMESPACE, TRAIN.job)
    fresh = made_before(server)
    client.delete(before, "Foreground")
    assert server.job(NAMESPACE, TRAIN.job)["metadata"]["uid"] == fresh["metadata"]["uid"]
    assert "deletionTimestamp" not in server.job(NAMESPACE, TRAIN.job)["metadata"]


def test_a_job_that_others_delete_again_and_again_is_given_up(
    server: JobsServer, client: ClusterClient
) -> None:
    made = 0

    def in_the_way(_: Any) -> str:
        nonlocal made
        made += 1
        server.access.policy = None
        server.controller.fail(made_before(server))
        server.access.policy = in_the_way
        return ""

    # Another Job of that name is created, and fails, while each of ours is being admitted.
    server.access.policy = in_the_way
    with pytest.raises(JobRefusedError, match="5 times") as caught:
        create_or_adopt(client, TRAIN)
    assert caught.value.told == "failed: the Job does not stay"
    assert made == server.faults.count("create jobs.batch") >= 2
