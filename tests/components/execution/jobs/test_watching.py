"""A Job is followed to its end whatever the connection, the API server and the token do meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.execution.jobs.client import open_cluster
from components.execution.jobs.dispatch import run_job
from components.execution.jobs.ends import JobEnd
from components.execution.jobs.order import Cluster, JobOrder
from tests.components.execution.jobs.conftest import NAMESPACE, REQUEST, SWIFT, TRAIN, completes, made_before
from tests.jobs_api.access import ROLE
from tests.jobs_api.controller import Controller
from tests.jobs_api.objects import JOBS, PODS, Object
from tests.jobs_api.server import JobsServer

Run = Callable[..., JobEnd]
Script = Callable[[Controller, Object], None]


def runs_for(seconds: float, end: Callable[[Controller, Object], None] = Controller.end) -> Script:
    """The life of a Job that takes its time."""

    def script(controller: Controller, job: Object) -> None:
        controller.pend(job)
        controller.run(job)
        time.sleep(seconds)
        end(controller, job)

    return script


def runs_until(holds: Callable[[], bool]) -> Script:
    """The life of a Job that is done once something is so, or after twenty seconds."""

    def script(controller: Controller, job: Object) -> None:
        controller.pend(job)
        controller.run(job)
        wait_for(holds)
        controller.end(job)

    return script


def wait_for(holds: Callable[[], bool]) -> None:
    """Returns once something is so, or after twenty seconds."""
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)


def leave(found: Object) -> None:
    """A deletion that waits for somebody's finalizer."""
    found["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.org/held"]}


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda c, job: c.end(job), ""),
        (lambda c, job: c.end(job, 3), "failed: exit code 3"),
        (lambda c, job: c.end(job, 137, "OOMKilled"), "oom"),
        (lambda c, job: c.evict(job), "evicted: preempted"),
        (lambda c, job: c.expire(job), "timeout: deadline of the Job"),
        (lambda c, job: c.delete(job), "evicted: the Job was deleted"),
        (lambda c, job: c.delete(job, "Foreground"), "evicted: the Job was deleted"),
    ],
    ids=["done", "failed", "oom", "evicted", "deadline", "deleted", "deleted in the foreground"],
)
def test_every_end_has_its_word(run: Run, end: Script, reason: str) -> None:
    assert run(runs_for(0.2, end)) == JobEnd(reason=reason)


@pytest.mark.parametrize(("exit_code", "reason"), [(0, ""), (3, "failed: exit code 3")])
def test_a_job_that_ended_and_is_deleted_since_has_ended(
    server: JobsServer, run: Run, exit_code: int, reason: str
) -> None:
    def ended(controller: Controller, job: Object) -> None:
        with controller.objects.changed:
            controller.end(job, exit_code)
            controller.objects.update(JOBS, NAMESPACE, TRAIN.job, leave)

    assert run(runs_for(0.1, ended)).reason == reason


def test_a_lost_pod_is_told_from_the_job(server: JobsServer, run: Run) -> None:
    def lost(controller: Controller, job: Object) -> None:
        with controller.objects.changed:
            controller.evict(job)
            controller.remove_pods(job)

    assert run(runs_for(0.1, lost)).reason == "evicted"


def test_a_job_that_is_replaced_by_another_of_its_name_was_deleted(server: JobsServer, run: Run) -> None:
    def replaced(controller: Controller, job: Object) -> None:
        with controller.objects.changed:
            controller.delete(job)
            completes(controller, made_before(server))

    assert run(runs_for(0.2, replaced)).reason == "evicted: the Job was deleted"


@pytest.mark.parametrize(
    ("request_kind", "status"),
    [
        ("list jobs.batch", 429),
        ("list jobs.batch", 500),
        ("list jobs.batch", 503),
        ("watch jobs.batch", 410),
        ("watch jobs.batch", 429),
        ("watch jobs.batch", 500),
        ("create jobs.batch", 429),
        ("create jobs.batch", 500),
        ("create jobs.batch", 504),
        ("get configmaps", 503),
        ("list pods", 500),
    ],
)
def test_errors_that_pass_are_waited_out(
    server: JobsServer, run: Run, request_kind: str, status: int
) -> None:
    server.faults.refuse(request_kind, status, times=3, retry_after_s=0.05)
    assert run(runs_until(lambda: server.faults.count(request_kind) >= 4)).reason == ""
    assert server.faults.count(request_kind) >= 4
    assert len(server.jobs(NAMESPACE)) == 1


@pytest.mark.parametrize("kind", ["list jobs.batch", "watch jobs.batch", "create jobs.batch", "list pods"])
def test_broken_connections_are_made_again(server: JobsServer, run: Run, kind: str) -> None:
    server.faults.drop(kind, times=2)
    server.faults.garble(kind)
    server.faults.lose_answers(kind)
    assert run(runs_until(lambda: server.faults.count(kind) >= 4)).reason == ""
    assert server.faults.count(kind) >= 4
    assert len(server.jobs(NAMESPACE)) == 1


def test_watches_that_are_cut_within_a_line_or_expire_begin_again(server: JobsServer, run: Run) -> None:
    server.faults.cut_watches(2)
    server.faults.expire_watches(2)

    def busy(controller: Controller, job: Object) -> None:
        deadline = time.monotonic() + 20
        while server.faults.count("watch jobs.batch") < 5 and time.monotonic() < deadline:
            controller.run(job)
            time.sleep(0.1)
        controller.end(job, 5)

    assert run(busy).reason == "failed: exit code 5"
    assert server.faults.count("watch jobs.batch") >= 5


def test_versions_that_are_forgotten_are_listed_anew(server: JobsServer, run: Run) -> None:
    def forgetful(controller: Controller, job: Object) -> None:
        controller.pend(job)
        controller.run(job)
        for _ in range(4):
            time.sleep(0.15)
            controller.objects.forget_changes()
        controller.end(job)

    assert run(forgetful).reason == ""


def test_what_happens_while_no_watch_is_open_is_seen(server: JobsServer, run: Run) -> None:
    server.faults.drop("watch jobs.batch", times=1000)
    patience = replace(SWIFT, longest_pause_s=0.4)
    began = time.monotonic()
    assert run(runs_for(1.0, lambda c, job: c.end(job, 4)), patience=patience).reason == "failed: exit code 4"
    # Pauses grow, so that a watch that always breaks is not opened all the time: six before the longest.
    assert server.faults.count("watch jobs.batch") <= 7 + (time.monotonic() - began) / 0.2


def test_a_silent_connection_is_noticed(server: JobsServer, run: Run) -> None:
    """As behind a network that drops a connection without telling either side."""
    server.faults.drop("watch jobs.batch", times=1, seconds=120.0)
    began = time.monotonic()
    assert run(runs_for(0.2)).reason == ""
    assert time.monotonic() - began < 60


def test_a_restart_of_the_api_server_is_survived(server: JobsServer, run: Run) -> None:
    def restarted(controller: Controller, job: Object) -> None:
        controller.pend(job)
        controller.run(job)
        wait_for(lambda: server.faults.count("watch jobs.batch") > 0)
        server.stop()
        time.sleep(0.7)
        controller.end(job)
        server.start()

    assert run(restarted) == JobEnd(reason="")


def test_an_api_server_that_does_not_come_back_is_unreachable(server: JobsServer, run: Run) -> None:
    def gone(controller: Controller, job: Object) -> None:
        controller.run(job)
        time.sleep(0.2)
        server.stop()

    began = time.monotonic()
    assert run(gone, patience=replace(SWIFT, unreachable_s=0.8)).reason == "unreachable: API server"
    assert 0.8 < time.monotonic() - began < 60


def test_an_api_server_that_was_never_there_is_unreachable(server: JobsServer, run: Run) -> None:
    server.stop()
    assert run(patience=replace(SWIFT, unreachable_s=0.4)).reason == "unreachable: API server"


def test_an_api_server_that_answers_with_errors_only_is_unreachable(server: JobsServer, run: Run) -> None:
    server.faults.refuse("list jobs.batch", 500, "SECRET", times=10_000)
    assert run(patience=replace(SWIFT, unreachable_s=0.4)).reason == "unreachable: API server"


def test_a_token_that_is_rotated_under_way_is_read_again(server: JobsServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    server.access.tokens = {"first": set(ROLE)}

    def rotates(controller: Controller, job: Object) -> None:
        controller.run(job)
        wait_for(lambda: server.faults.count("watch jobs.batch") > 0)
        server.access.tokens = {"second": set(ROLE)}
        server.stop()
        server.start()
        # The secret follows a moment later, as it does in a mounted volume.
        time.sleep(0.3)
        token.write_text("second\n")
        time.sleep(0.2)
        controller.end(job)

    server.controller.runner = rotates
    path = server.write_kubeconfig(tmp_path / "kubeconfig", token_file=Path(token.name))
    cluster = Cluster(namespace=NAMESPACE, kubeconfig=str(path))
    assert run_job(TRAIN, cluster, patience=SWIFT) == JobEnd(reason="")
    assert {each.token for each in server.faults.requests} == {"first", "second"}


def test_a_token_that_stays_unknown_is_denied(server: JobsServer, run: Run) -> None:
    server.access.tokens = {}
    assert run(patience=replace(SWIFT, denied_s=0.3)).reason == "denied: the token is not known"
    assert server.faults.count("list jobs.batch") > 1


def test_a_token_file_that_stays_away_is_denied(server: JobsServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    path = server.write_kubeconfig(tmp_path / "kubeconfig", token_file=Path(token.name))
    client = open_cluster(Cluster(namespace=NAMESPACE, kubeconfig=str(path)))
    assert client is not None
    token.unlink()
    terms = Cluster(namespace=NAMESPACE, kubeconfig=str(path))
    token.write_text("")
    assert (
        run_job(TRAIN, terms, patience=replace(SWIFT, denied_s=0.3)).reason
        == "denied: the token is not known"
    )


def test_a_watch_without_the_right_to_it_is_denied_after_a_while(server: JobsServer, run: Run) -> None:
    server.access.tokens = {
        token: rights - {("watch", JOBS)} for token, rights in server.access.tokens.items()
    }
    patience = replace(SWIFT, denied_s=0.4)
    assert run(lambda c, job: c.run(job), patience=patience).reason == "denied: no right to watch jobs"


def test_rights_that_are_missing_for_a_moment_are_waited_for(server: JobsServer, run: Run) -> None:
    """As with an API server that has just started and knows no roles yet."""

    def forgets(controller: Controller, job: Object) -> None:
        controller.run(job)
        time.sleep(0.1)
        server.faults.refuse("list jobs.batch", 403, times=3)
        server.faults.refuse("watch jobs.batch", 403, times=2)
        time.sleep(1.5)
        controller.end(job)

    assert run(forgets).reason == ""


def test_a_job_that_does_not_start_is_cancelled(server: JobsServer, run: Run) -> None:
    patience = replace(SWIFT, start_grace_s=0.6)
    assert run(lambda c, job: c.pend(job), patience=patience).reason == "timeout: did not start"
    assert server.jobs(NAMESPACE) == []


def test_a_job_without_pods_does_not_start(server: JobsServer, run: Run) -> None:
    """As where a quota or the namespace's security standard lets no pod in."""
    assert run(patience=replace(SWIFT, start_grace_s=0.6)).reason == "timeout: did not start"


def running(
    server: JobsServer,
    order: JobOrder,
    then: Callable[[Object], None] = lambda job: None,
    *,
    after_s: float = 0.0,
) -> None:
    """A Job that has begun to run before it is looked at, and what becomes of it."""
    job = made_before(server, order)
    server.controller.pend(job)
    server.controller.run(job)
    threading.Timer(after_s, then, (job,)).start()


@pytest.mark.parametrize("script", [lambda c, job: c.pend(job), lambda c, job: c.pend(job, "ErrImagePull")])
def test_where_pods_may_not_be_listed_the_job_tells_whether_it_started(
    server: JobsServer, run: Run, script: Script
) -> None:
    server.access.tokens = {
        token: rights - {("list", PODS)} for token, rights in server.access.tokens.items()
    }
    patience = replace(SWIFT, start_grace_s=0.6)
    assert run(script, patience=patience).reason == "timeout: did not start"
    other = JobOrder(step="seal", request=REQUEST, deadline_s=30)
    running(server, other, server.controller.end, after_s=1.0)
    assert run(order=other, patience=patience) == JobEnd(adopted=True)
    failing = JobOrder(step="adapt", request=REQUEST, deadline_s=30)
    assert run(runs_for(0.1, lambda c, job: c.end(job, 137, "OOMKilled")), order=failing).reason == "failed"


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"])
def test_an_image_that_cannot_be_had_is_told_after_a_while(server: JobsServer, run: Run, reason: str) -> None:
    assert run(lambda c, job: c.pend(job, reason)).reason == f"image: {reason}"
    assert server.jobs(NAMESPACE) == []


def test_an_image_that_comes_at_last_is_no_reason(server: JobsServer, run: Run) -> None:
    def slow(controller: Controller, job: Object) -> None:
        for waits in ("ErrImagePull", "ContainerCreating", "ErrImagePull"):
            controller.pend(job, waits)
            time.sleep(1.8)
        controller.run(job)
        controller.end(job)

    assert run(slow, patience=replace(SWIFT, image_s=3.0)).reason == ""


def test_a_job_that_outlives_its_deadline_is_cancelled_by_the_dispatcher(
    server: JobsServer, run: Run
) -> None:
    """The cluster ends such a Job itself; this is for one that does not."""
    order = JobOrder(step="train", request=REQUEST, deadline_s=1)
    patience = replace(SWIFT, start_grace_s=0.3, late_s=0.2)
    running(server, order)
    began = time.monotonic()
    assert run(order=order, patience=patience).reason == "timeout: deadline"
    assert 1.5 <= time.monotonic() - began < 60
    assert server.jobs(NAMESPACE) == []


def test_changes_of_other_jobs_are_not_looked_at(server: JobsServer, run: Run) -> None:
    other = made_before(server, JobOrder(step="seal", request=REQUEST, deadline_s=30))

    def noisy(controller: Controller, job: Object) -> None:
        controller.run(job)
        time.sleep(0.3)
        before = server.faults.count("list jobs.batch")
        for _ in range(20):
            controller.run(other)
        time.sleep(0.2)
        noise.append(server.faults.count("list jobs.batch") - before)
        controller.end(job)

    noise: list[int] = []
    assert run(noisy, patience=replace(SWIFT, watch_s=30.0)).reason == ""
    assert noise[0] <= 1


def test_a_quiet_hour_costs_two_requests_a_watch(server: JobsServer, run: Run) -> None:
    patience = replace(SWIFT, watch_s=1.0)
    began = time.monotonic()
    assert run(runs_for(2.2), patience=patience).reason == ""
    passed = time.monotonic() - began
    asked = [f"{each.verb} {each.resource}" for each in server.faults.requests]
    # Until it runs there is a watch and a look every 0.2 s; before and after, two lists.
    waited = (passed - 2.2) / 0.2
    assert asked.count("watch jobs.batch") <= 3 + passed + waited
    assert asked.count("list jobs.batch") <= 5 + passed + waited
    assert asked.count("list pods") <= 3 + waited


def test_only_what_the_role_gives_is_asked_for(server: JobsServer, run: Run) -> None:
    run(runs_for(0.1, lambda c, job: c.end(job, 1)))
    run(completes)
    run(
        lambda c, job: c.pend(job, "ErrImagePull"), order=JobOrder(step="seal", request=REQUEST, deadline_s=9)
    )
    asked: set[Any] = {(each.verb, each.resource) for each in server.faults.requests}
    jobs = {(verb, JOBS) for verb in ("create", "list", "watch", "delete")}
    assert asked == jobs | {("get", "configmaps"), ("list", PODS)}
    assert {each.namespace for each in server.faults.requests} == {NAMESPACE}
    assert threading.active_count() < 20
