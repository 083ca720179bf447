"""How a Job ended or stands, read from its status and the state of its pods."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.execution.jobs.template import CONTAINER

IMAGE_TROUBLES = {
    "CreateContainerConfigError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
}
_LOST = {"Evicted", "NodeAffinity", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated"}
_DISRUPTIONS = {
    "DeletionByPodGC": "its node is gone",
    "DeletionByTaintManager": "its node was tainted",
    "EvictionByEvictionAPI": "its node is drained",
    "PreemptionByScheduler": "preempted",
    "TerminationByKubelet": "by its node",
}
_EXIT_CODE = re.compile(r" failed with exit code (\d{1,3}) matching ")


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a Job ended.

    Attributes:
        reason: empty for a Job that completed; else `word` or `word: detail` of code words that the roster
            knows: unreachable, denied, image, oom, evicted, timeout, failed.
        adopted: whether the Job had been created before this dispatcher came.
    """

    reason: str = ""
    adopted: bool = False


def condition(of: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """The condition of type `kind` that is true of a Job or a pod, if any."""
    conditions = (of.get("status") or {}).get("conditions") or ()
    return next(
        (each for each in conditions if each.get("type") == kind and each.get("status") == "True"), None
    )


def is_finished(job: Mapping[str, Any]) -> bool:
    """Whether the Job has completed or failed for good."""
    return bool(condition(job, "Complete") or condition(job, "Failed"))


def is_leaving(job: Mapping[str, Any]) -> bool:
    """Whether the Job has been deleted and is not gone yet."""
    return bool(job["metadata"].get("deletionTimestamp"))


def end_reason(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]] | None) -> str:
    """Why a finished Job ended; empty if it completed.

    Args:
        job: a finished one.
        pods: of it, as far as they are there and may be listed.
    """
    failed = condition(job, "Failed")
    if failed is None:
        return ""
    if failed.get("reason") == "DeadlineExceeded":
        return "timeout: deadline of the Job"
    reasons = [reason for pod in pods or () if (reason := _pod_reason(pod))]
    # The pod that says most: an eviction explains the exit code of another try, not the reverse.
    for word in ("oom", "evicted", "failed"):
        for reason in reasons:
            if reason.startswith(word):
                return reason
    return _controller_reason(str(failed.get("message") or ""))


def has_started(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]] | None) -> bool:
    """Whether a container of the Job has run."""
    status = job.get("status") or {}
    if any(status.get(count) for count in ("ready", "succeeded", "failed")):
        return True
    return any(
        (pod.get("status") or {}).get("phase") in {"Running", "Succeeded", "Failed"} for pod in pods or ()
    )


def image_trouble(pods: Sequence[Mapping[str, Any]] | None) -> str:
    """Why a pod that waits has no image or no configuration, or empty."""
    for pod in pods or ():
        reason = ((_container(pod).get("state") or {}).get("waiting") or {}).get("reason")
        if reason in IMAGE_TROUBLES:
            return str(reason)
    return ""


def _container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    states = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((state for state in states if state.get("name") == CONTAINER), {})


def _pod_reason(pod: Mapping[str, Any]) -> str:
    ended = (_container(pod).get("state") or {}).get("terminated") or {}
    if ended.get("reason") == "OOMKilled":
        return "oom"
    disrupted = condition(pod, "DisruptionTarget")
    if disrupted:
        how = _DISRUPTIONS.get(str(disrupted.get("reason")))
        return f"evicted: {how}" if how else "evicted"
    if (pod.get("status") or {}).get("reason") in _LOST:
        return "evicted"
    code = ended.get("exitCode")
    if isinstance(code, int) and code != 0:
        return f"failed: exit code {code}"
    return ""


def _controller_reason(message: str) -> str:
    """From what the Job controller, never the container, writes: for pods that are gone or not to be seen."""
    if " has condition DisruptionTarget matching " in message:
        return "evicted"
    code = _EXIT_CODE.search(message)
    return f"failed: exit code {code[1]}" if code else "failed"
