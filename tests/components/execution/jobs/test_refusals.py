"""What a cluster says when it creates no Job, and the few words of it that leave."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from components.execution.jobs.ends import JobEnd
from components.execution.jobs.order import JobOrder
from components.execution.jobs.refusals import RefusedRequestError, message_of, refusal
from tests.components.execution.jobs.conftest import NAMESPACE, REQUEST, completes, made_before
from tests.jobs_api.objects import CONFIG_MAPS, JOBS
from tests.jobs_api.server import JobsServer
from tests.jobs_api.templates import template

Run = Callable[..., JobEnd]


def test_an_admission_policy_is_named_and_not_quoted(server: JobsServer, run: Run) -> None:
    server.access.policy = lambda job: "image: SECRET is not pinned"
    assert run(completes).reason == "denied: policy crosscloud-step"


def test_a_quota_is_told_as_one(server: JobsServer, run: Run) -> None:
    server.access.jobs_quota = 1
    made_before(server, JobOrder(step="seal", request=REQUEST, deadline_s=30))
    assert run(completes).reason == "denied: quota"


@pytest.mark.parametrize("verb", ["create", "list"])
def test_missing_rights_are_named(server: JobsServer, run: Run, verb: str) -> None:
    server.access.tokens = {token: rights - {(verb, JOBS)} for token, rights in server.access.tokens.items()}
    assert run(completes).reason == f"denied: no right to {verb} jobs"


def test_a_template_that_may_not_be_read_is_denied(server: JobsServer, run: Run) -> None:
    rights = {(verb, JOBS) for verb in ("create", "get", "list", "watch", "delete")}
    server.access.tokens = {token: set(rights) for token in server.access.tokens}
    assert run(completes).reason == "denied: no right to read configmap crosscloud-step"


def test_a_site_without_template_says_so(server: JobsServer, run: Run) -> None:
    server.objects.remove(CONFIG_MAPS, NAMESPACE, "crosscloud-step")
    assert run(completes).reason == "failed: nothing there to read configmap crosscloud-step"


def test_a_template_of_another_form_says_which_field(server: JobsServer, run: Run) -> None:
    server.objects.remove(CONFIG_MAPS, NAMESPACE, "crosscloud-step")
    other = template()
    other["spec"]["backoffLimit"] = 6
    server.add_namespace(NAMESPACE, other)
    assert run(completes).reason == "failed: template spec.backoffLimit"
    assert server.faults.count("create jobs.batch") == 0


def test_a_job_that_the_api_server_does_not_understand(server: JobsServer, run: Run) -> None:
    server.objects.remove(CONFIG_MAPS, NAMESPACE, "crosscloud-step")
    other = template()
    other["spec"]["template"]["spec"]["containers"][0]["imageDigest"] = "SECRET"
    server.add_namespace(NAMESPACE, other)
    assert run(completes).reason == "failed: the Job is not valid there"


def test_a_namespace_that_is_not_there(server: JobsServer, run: Run) -> None:
    server.namespaces.clear()
    assert run(completes).reason == "failed: no such namespace"


def test_the_clusters_own_words_are_shown_to_a_person_who_debugs_only(
    server: JobsServer, run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.access.policy = lambda job: "image: SECRET is not pinned"
    monkeypatch.delenv("CROSSCLOUD_DEBUG", raising=False)
    run(completes)
    assert "SECRET" not in capfd.readouterr().err
    monkeypatch.setenv("CROSSCLOUD_DEBUG", "1")
    run(completes)
    assert "image: SECRET is not pinned" in capfd.readouterr().err


QUOTED = "ValidatingAdmissionPolicy 'a SECRET' with binding 'b' denied request: no"
UNBOUND = "ValidatingAdmissionPolicy 'crosscloud-jobs' denied request: SECRET"
WEBHOOK = 'admission webhook "policy.example.org" denied the request: SECRET'


@pytest.mark.parametrize(
    ("status", "message", "told"),
    [
        (403, QUOTED, "denied: no right to create jobs"),
        (400, WEBHOOK, "denied: policy policy.example.org"),
        (
            403,
            "unable to create new content in namespace SECRET because it is being terminated",
            "failed: the namespace is being deleted",
        ),
        (403, UNBOUND, "denied: policy crosscloud-jobs"),
        (403, "status unknown for quota: SECRET, resources: count/jobs.batch", "denied: quota"),
        (405, "SECRET", "failed: HTTP 405"),
        (413, "SECRET", "failed: HTTP 413"),
        (422, "SECRET", "failed: the Job is not valid there"),
    ],
)
def test_messages_are_read_for_code_words_only(status: int, message: str, told: str) -> None:
    error = refusal(RefusedRequestError(status, message), of="create jobs")
    assert error.told == told
    assert "SECRET" not in error.told


@pytest.mark.parametrize("body", [None, b"", "<html>", b"[]", b'{"message": 5}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_status_has_no_message(body: bytes | str | None) -> None:
    assert message_of(body) == ""
