"""What goes on behind the API server: pods come, run, end and are lost, and Jobs follow them.

Tests call it by hand, or a runner does for every Job that is created.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.jobs_api.answers import RefusedError
from tests.jobs_api.objects import JOBS, PODS, Object, Objects, labelled, timestamp

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"


class Controller:
    """The Job controller, the scheduler and the nodes of one cluster."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.runner: Callable[[Controller, Object], None] | None = None
        """Called in a thread of its own with every Job that is created."""
        self._gone: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def admitted(self, job: Object) -> None:
        """A Job has been created: a pod is made for it, and the runner is told."""
        self._gone[job["metadata"]["uid"]] = threading.Event()
        if self.runner is not None:
            thread = threading.Thread(target=self.runner, args=(self, job), daemon=True)
            self._threads.append(thread)
            thread.start()

    def gone(self, job: Object) -> threading.Event:
        """Set once the pods of that Job have to end."""
        return self._gone[job["metadata"]["uid"]]

    def pend(self, job: Object, waiting: str = "") -> None:
        """The Job's pod is there and waits: for a node, or its container for the reason named."""
        states = []
        if waiting:
            states = [_state(job, {"waiting": {"reason": waiting}})]
        self._pod(job, {"phase": "Pending", "containerStatuses": states})
        self._status(job, {"active": 1, "ready": 0, "startTime": timestamp()})

    def run(self, job: Object) -> None:
        """The Job's container runs."""
        state = _state(job, {"running": {"startedAt": timestamp()}}, ready=True)
        self._pod(job, {"phase": "Running", "containerStatuses": [state]})
        self._status(job, {"active": 1, "ready": 1, "startTime": timestamp()})

    def end(self, job: Object, exit_code: int = 0, reason: str = "") -> None:
        """The Job's container has ended, and the Job with it."""
        reason = reason or ("Completed" if exit_code == 0 else "Error")
        ended = {"exitCode": exit_code, "reason": reason, "finishedAt": timestamp()}
        phase = "Failed" if exit_code else "Succeeded"
        state = _state(job, {"terminated": ended})
        self._pod(job, {"phase": phase, "containerStatuses": [state]})
        if exit_code:
            self.fail(job)
        else:
            self._status(job, {"succeeded": 1, "active": 0, "ready": 0, "completionTime": timestamp()})
            self._condition(
                job, "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
            )

    def fail(
        self,
        job: Object,
        reason: str = "BackoffLimitExceeded",
        message: str = "Job has reached the specified backoff limit",
    ) -> None:
        """The Job has failed for good."""
        self._status(job, {"failed": 1, "active": 0, "ready": 0})
        self._condition(job, "Failed", reason, message)

    def evict(self, job: Object, reason: str = "PreemptionByScheduler") -> None:
        """The Job's pod is disrupted, and the Job fails by its podFailurePolicy."""
        disrupted = {"type": "DisruptionTarget", "status": "True", "reason": reason}
        ended = _state(job, {"terminated": {"exitCode": 137, "reason": "Error"}})
        self._pod(job, {"phase": "Failed", "conditions": [disrupted], "containerStatuses": [ended]})
        name = self._pod_name(job)
        message = f"Pod {name} has condition DisruptionTarget matching FailJob rule at index 0"
        self.fail(job, "PodFailurePolicy", message)

    def expire(self, job: Object) -> None:
        """The Job was active longer than its deadline: its pods are deleted and it fails."""
        self.gone(job).set()
        self._remove_pods(job)
        self.fail(job, "DeadlineExceeded", "Job was active longer than specified deadline")

    def delete(self, job: Object, propagation: str = "Background") -> Object:
        """The Job is deleted: its pods after it, before it, or never (`Orphan`)."""
        metadata = job["metadata"]
        key = (JOBS, metadata["namespace"], metadata["name"])
        if propagation == "Foreground":

            def leave(found: Object) -> None:
                found["metadata"].setdefault("deletionTimestamp", timestamp())
                found["metadata"]["finalizers"] = ["foregroundDeletion"]

            leaving = self.objects.update(*key, leave)
            threading.Thread(target=self._remove_later, args=(job,), daemon=True).start()
            return leaving
        self.objects.remove(*key)
        if propagation == "Background":
            self.gone(job).set()
            self._remove_pods(job)
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Success",
            "details": {"uid": metadata["uid"]},
        }

    def remove_pods(self, job: Object) -> None:
        """The Job's pods are gone, as after the loss of their node."""
        self._remove_pods(job)

    def close(self) -> None:
        """Ends all pods."""
        for event in self._gone.values():
            event.set()
        for thread in self._threads:
            thread.join(timeout=20)

    def _remove_later(self, job: Object) -> None:
        time.sleep(0.2)
        self.gone(job).set()
        self._remove_pods(job)
        with contextlib.suppress(RefusedError):
            self.objects.remove(JOBS, job["metadata"]["namespace"], job["metadata"]["name"])

    def _remove_pods(self, job: Object) -> None:
        for pod in self.objects.list(PODS, job["metadata"]["namespace"]):
            if labelled(pod, f"{CONTROLLER_UID}={job['metadata']['uid']}"):
                self.objects.remove(PODS, job["metadata"]["namespace"], pod["metadata"]["name"])

    def _pod_name(self, job: Object) -> str:
        return f"{job['metadata']['name']}-{job['metadata']['uid'][:5]}"

    def _pod(self, job: Object, status: dict[str, Any]) -> None:
        namespace, name = job["metadata"]["namespace"], self._pod_name(job)

        def change(pod: Object) -> None:
            pod["status"] = copy.deepcopy(status)

        try:
            self.objects.update(PODS, namespace, name, change)
        except RefusedError:
            labels = dict(job["spec"]["template"]["metadata"]["labels"])
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": labels},
                "spec": copy.deepcopy(job["spec"]["template"]["spec"]),
                "status": copy.deepcopy(status),
            }
            self.objects.create(PODS, namespace, pod)

    def _status(self, job: Object, status: dict[str, Any]) -> None:
        def change(found: Object) -> None:
            found.setdefault("status", {}).update(status)

        self._change(job, change)

    def _condition(self, job: Object, kind: str, reason: str, message: str) -> None:
        def change(found: Object) -> None:
            condition = {"type": kind, "status": "True", "reason": reason, "message": message}
            found.setdefault("status", {}).setdefault("conditions", []).append(condition)

        self._change(job, change)

    def _change(self, job: Object, change: Callable[[Object], None]) -> None:
        def of_that_job(found: Object) -> None:
            if found["metadata"]["uid"] == job["metadata"]["uid"]:
                change(found)

        # The Job may have been deleted while its pod was ending.
        with contextlib.suppress(RefusedError):
            self.objects.update(JOBS, job["metadata"]["namespace"], job["metadata"]["name"], of_that_job)


def labels_of_pods(job: Object) -> None:
    """Adds the selector and labels by which a Job knows its pods, as the API server does on creation."""
    uid, name = job["metadata"]["uid"], job["metadata"]["name"]
    job["spec"]["selector"] = {"matchLabels": {CONTROLLER_UID: uid}}
    job["spec"]["template"]["metadata"].setdefault("labels", {}).update(
        {CONTROLLER_UID: uid, JOB_NAME: name, "controller-uid": uid, "job-name": name}
    )


def _state(job: Object, state: dict[str, Any], *, ready: bool = False) -> dict[str, Any]:
    container = job["spec"]["template"]["spec"]["containers"][0]
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }
