"""Job and pod states as a cluster writes them, and the words that the roster reads for them."""

from __future__ import annotations

from typing import Any

import pytest

from components.execution.jobs.ends import end_reason, has_started, image_trouble, is_finished


def failed(reason: str = "BackoffLimitExceeded", message: str = "") -> dict[str, Any]:
    conditions = [
        {"type": "FailureTarget", "status": "True", "reason": reason},
        {"type": "Failed", "status": "True", "reason": reason, "message": message},
    ]
    return {"metadata": {"uid": "1"}, "status": {"conditions": conditions}}


def pod(*, status: dict[str, Any] | None = None, **state: Any) -> dict[str, Any]:
    states = [{"name": "step", "state": state}] if state else []
    return {"metadata": {"name": "p"}, "status": {"containerStatuses": states} | (status or {})}


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": "SECRET"}}


def disrupted(reason: str) -> dict[str, Any]:
    return {
        "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "SECRET"}]
    }


POLICY_EXIT = "Container step for pod a/b failed with exit code 42 matching FailJob rule at index 1"
POLICY_LOSS = "Pod a/b has condition DisruptionTarget matching FailJob rule at index 0"


@pytest.mark.parametrize(
    ("job", "pods", "reason"),
    [
        (failed(), [pod(**ended(1))], "failed: exit code 1"),
        (failed(), [pod(**ended(137))], "failed: exit code 137"),
        (failed(), [pod(**ended(137, "OOMKilled"))], "oom"),
        (failed(), [pod(**ended(1, "OOMKilled"))], "oom"),
        (failed(), [pod(**ended(128, "StartError"))], "failed: exit code 128"),
        (failed(), [pod(status=disrupted("PreemptionByScheduler"), **ended(137))], "evicted: preempted"),
        (failed(), [pod(status=disrupted("DeletionByTaintManager"))], "evicted: its node was tainted"),
        (failed(), [pod(status=disrupted("EvictionByEvictionAPI"))], "evicted: its node is drained"),
        (failed(), [pod(status=disrupted("DeletionByPodGC"))], "evicted: its node is gone"),
        (failed(), [pod(status=disrupted("TerminationByKubelet"))], "evicted: by its node"),
        (failed(), [pod(status=disrupted("a reason of tomorrow"))], "evicted"),
        (failed(), [pod(status={"reason": "Evicted", "message": "SECRET"})], "evicted"),
        (failed(), [pod(status={"reason": "NodeLost"}, **ended(1))], "evicted"),
        (failed(), [pod(**ended(1)), pod(status={"reason": "Evicted"})], "evicted"),
        (failed("DeadlineExceeded"), [pod(**ended(143))], "timeout: deadline of the Job"),
        (failed("PodFailurePolicy", POLICY_EXIT), None, "failed: exit code 42"),
        (failed("PodFailurePolicy", POLICY_LOSS), [], "evicted"),
        (failed("PodFailurePolicy", POLICY_LOSS), [pod(**ended(0, "Completed"))], "evicted"),
        (failed(message="SECRET"), None, "failed"),
        (failed("a reason of tomorrow", "SECRET"), [pod()], "failed"),
    ],
)
def test_a_failure_is_told_in_code_words(job: Any, pods: Any, reason: str) -> None:
    assert is_finished(job)
    assert end_reason(job, pods) == reason
    assert "SECRET" not in end_reason(job, pods)


def test_a_job_that_completed_has_no_reason() -> None:
    job = {"metadata": {}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert is_finished(job)
    assert end_reason(job, [pod(**ended(0))]) == ""


@pytest.mark.parametrize(
    "conditions",
    [
        None,
        [],
        [{"type": "Failed", "status": "False"}],
        [{"type": "FailureTarget", "status": "True"}],
        [{"type": "SuccessCriteriaMet", "status": "True"}],
        [{"type": "Suspended", "status": "True"}],
    ],
)
def test_a_job_whose_pods_may_still_run_has_not_ended(conditions: Any) -> None:
    assert not is_finished({"metadata": {}, "status": {"conditions": conditions}})


@pytest.mark.parametrize(
    ("status", "pods", "started"),
    [
        ({}, None, False),
        (None, [], False),
        ({"active": 1, "ready": 0}, [pod(status={"phase": "Pending"})], False),
        ({"active": 1}, [pod(status={"phase": "Running"})], True),
        ({"ready": 1}, None, True),
        ({"failed": 1}, None, True),
    ],
)
def test_a_job_has_started_once_its_container_ran(status: Any, pods: Any, started: bool) -> None:
    assert has_started({"metadata": {}, "status": status}, pods) is started


@pytest.mark.parametrize(
    "reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"]
)
def test_an_image_that_cannot_be_pulled_shows(reason: str) -> None:
    assert image_trouble([pod(), pod(waiting={"reason": reason, "message": "SECRET"})]) == reason


@pytest.mark.parametrize("state", [{}, {"waiting": {"reason": "ContainerCreating"}}, {"running": {}}])
def test_a_container_that_is_being_made_is_no_trouble(state: dict[str, Any]) -> None:
    assert image_trouble([pod(**state)]) == ""
    assert image_trouble(None) == ""
