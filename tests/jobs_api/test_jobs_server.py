"""The local API server does what a real one is known to do: what dispatchers' tests conclude rests on it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client as kubernetes
from kubernetes import config, watch

from tests.jobs_api.process_runner import ProcessRunner
from tests.jobs_api.server import JobsServer
from tests.jobs_api.templates import template

NAMESPACE = "crosscloud-alpha"


@pytest.fixture
def server() -> Iterator[JobsServer]:
    with JobsServer() as running:
        running.add_namespace(NAMESPACE, template())
        yield running


@pytest.fixture
def batch(server: JobsServer, tmp_path: Path) -> kubernetes.BatchV1Api:
    """The official client as anybody uses it."""
    path = server.write_kubeconfig(tmp_path / "kubeconfig")
    return kubernetes.BatchV1Api(config.new_client_from_config(str(path)))


def job(name: str = "one", **container: Any) -> dict[str, Any]:
    made = template()
    made["metadata"]["name"] = name
    made["spec"]["template"]["spec"]["containers"][0] |= container
    return made


def refused(call: Callable[[], object]) -> Any:
    with pytest.raises(kubernetes.ApiException) as caught:
        call()
    return caught.value


def test_the_clients_models_read_what_it_writes(batch: kubernetes.BatchV1Api, server: JobsServer) -> None:
    created = batch.create_namespaced_job(NAMESPACE, job())
    uid = created.metadata.uid
    assert created.spec.selector.match_labels == {"batch.kubernetes.io/controller-uid": uid}
    assert created.spec.template.metadata.labels["job-name"] == "one"
    server.controller.pend(server.job(NAMESPACE, "one"))
    server.controller.run(server.job(NAMESPACE, "one"))
    core = kubernetes.CoreV1Api(batch.api_client)
    (pod,) = core.list_namespaced_pod(NAMESPACE, label_selector=f"controller-uid={uid}").items
    assert pod.status.phase == "Running"
    assert core.list_namespaced_pod(NAMESPACE, label_selector="controller-uid=other").items == []
    assert batch.read_namespaced_job("one", NAMESPACE).status.ready == 1


def test_a_watch_tells_changes_after_a_version(batch: kubernetes.BatchV1Api, server: JobsServer) -> None:
    batch.create_namespaced_job(NAMESPACE, job("one"))
    batch.create_namespaced_job(NAMESPACE, job("two"))
    version = batch.list_namespaced_job(NAMESPACE).metadata.resource_version
    one = server.job(NAMESPACE, "one")
    server.controller.run(one)
    server.controller.run(server.job(NAMESPACE, "two"))
    server.controller.delete(one)
    told = watch.Watch().stream(
        batch.list_namespaced_job,
        NAMESPACE,
        field_selector="metadata.name=one",
        resource_version=version,
        timeout_seconds=1,
    )
    assert [(event["type"], event["object"].metadata.name) for event in told] == [
        ("MODIFIED", "one"),
        ("DELETED", "one"),
    ]


def test_a_version_that_is_forgotten_has_expired(batch: kubernetes.BatchV1Api, server: JobsServer) -> None:
    batch.create_namespaced_job(NAMESPACE, job())
    server.objects.forget_changes()
    stream = watch.Watch().stream(batch.list_namespaced_job, NAMESPACE, resource_version=1, timeout_seconds=1)
    assert refused(lambda: list(stream)).status == 410


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda j: j["spec"].update(backofLimit=0), 400),
        (lambda j: j["spec"].update(backoffLimit="0"), 400),
        (lambda j: j["spec"]["template"]["spec"]["containers"][0].pop("name"), 400),
        (lambda j: j["spec"]["template"]["spec"].update(restartPolicy="Always"), 422),
    ],
)
def test_jobs_are_validated_strictly(
    batch: kubernetes.BatchV1Api, change: Callable[[Any], object], status: int
) -> None:
    wrong = job()
    change(wrong)
    assert refused(lambda: batch.create_namespaced_job(NAMESPACE, wrong)).status == status


def test_refusals_are_the_api_servers(batch: kubernetes.BatchV1Api, server: JobsServer) -> None:
    batch.create_namespaced_job(NAMESPACE, job())
    again = refused(lambda: batch.create_namespaced_job(NAMESPACE, job()))
    assert (again.status, '"reason": "AlreadyExists"' in again.body) == (409, True)
    options = {"preconditions": {"uid": "other"}}
    assert refused(lambda: batch.delete_namespaced_job("one", NAMESPACE, body=options)).status == 409
    assert refused(lambda: batch.delete_namespaced_job("two", NAMESPACE)).status == 404
    assert refused(lambda: batch.read_namespaced_job("two", NAMESPACE)).status == 404
    server.access.jobs_quota = 1
    full = refused(lambda: batch.create_namespaced_job(NAMESPACE, job("two")))
    assert (full.status, "exceeded quota" in full.body) == (403, True)
    core = kubernetes.CoreV1Api(batch.api_client)
    assert refused(lambda: core.read_namespaced_config_map("other", NAMESPACE)).status == 403
    assert refused(lambda: core.list_namespaced_config_map(NAMESPACE)).status == 403
    assert refused(lambda: core.list_namespaced_secret(NAMESPACE)).status == 404
    assert refused(lambda: batch.patch_namespaced_job("one", NAMESPACE, {})).status == 403
    server.access.tokens.clear()
    assert refused(lambda: batch.list_namespaced_job(NAMESPACE)).status == 401


@pytest.fixture
def runner(server: JobsServer, tmp_path: Path) -> ProcessRunner:
    made = ProcessRunner(tmp_path / "jobs", mounts={"/work": tmp_path / "work", "/": Path("/nowhere")})
    server.controller.runner = made
    return made


def ended(server: JobsServer, name: str = "one") -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status: dict[str, Any] = server.job(NAMESPACE, name)["status"]
        if status.get("conditions"):
            return status
        time.sleep(0.02)
    raise AssertionError("the Job did not end")


def test_a_job_really_runs(server: JobsServer, runner: ProcessRunner, tmp_path: Path) -> None:
    code = "import os, sys; print(sys.argv[1:], os.environ['HOME'], os.environ['CROSSCLOUD_STORE_URI'])"
    made = job(command=["python3", "-c", code], args=["train", "x"])
    server.create(NAMESPACE, made)
    assert ended(server)["conditions"][0]["type"] == "Complete"
    work = tmp_path / "work"
    assert runner.output("one") == f"['train', 'x'] {work} file://{work}/store\n"


@pytest.mark.parametrize(
    ("code", "exit_code"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_exit_codes_become_states(
    server: JobsServer, runner: ProcessRunner, code: str, exit_code: int
) -> None:
    server.create(NAMESPACE, job(command=["python3", "-c", code]))
    assert ended(server)["conditions"][0]["reason"] == "BackoffLimitExceeded"
    (pod,) = server.objects.list("pods", NAMESPACE)
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == exit_code


def test_a_deadline_ends_the_process(server: JobsServer, runner: ProcessRunner) -> None:
    made = job(command=["sleep", "60"])
    made["spec"]["activeDeadlineSeconds"] = 1
    server.create(NAMESPACE, made)
    assert ended(server)["conditions"][0]["reason"] == "DeadlineExceeded"
    with pytest.raises(ProcessLookupError):
        os.kill(runner.pids["one"], 0)


@pytest.mark.parametrize(("policy", "lives"), [("Background", False), ("Foreground", False), (None, True)])
def test_a_deleted_job_takes_its_process_along_where_asked(
    server: JobsServer, batch: kubernetes.BatchV1Api, runner: ProcessRunner, policy: str | None, lives: bool
) -> None:
    server.create(NAMESPACE, job(command=["sleep", "60"]))
    deadline = time.monotonic() + 20
    while "one" not in runner.pids and time.monotonic() < deadline:
        time.sleep(0.02)
    batch.delete_namespaced_job("one", NAMESPACE, body={"propagationPolicy": policy} if policy else {})
    time.sleep(1.0)
    try:
        os.kill(runner.pids["one"], signal.SIGCONT)
        found = True
    except ProcessLookupError:
        found = False
    assert found is lives
    assert server.jobs(NAMESPACE) == []
