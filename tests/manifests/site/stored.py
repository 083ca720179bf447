"""A Job as an API server presents it to admission: defaults filled in, its own labels and selector set."""

from __future__ import annotations

import copy
from typing import Any

from components.execution.jobs.order import Accelerator, JobOrder
from components.execution.jobs.template import fill_template, read_template
from tests.manifests.site.admission import NAMESPACE, Manifest

UID = "6f4f1b0e-2f0f-4f43-9d57-0b8f6b6a3c11"
REQUEST = "0123456789abcdef" * 4
CREATED = "2026-11-28T12:00:00Z"
GPU = Accelerator(type="nvidia.com/gpu", count=1)


def filled(template: str, *, step: str = "train", deadline_s: int = 3600) -> Manifest:
    """The template as a dispatcher fills it in; `augment` and `train` with an accelerator."""
    accelerator = GPU if step in {"augment", "train"} else None
    order = JobOrder(step=step, request=REQUEST, deadline_s=deadline_s, accelerator=accelerator)
    return fill_template(read_template(template), order, NAMESPACE)


def created(job: Manifest) -> Manifest:
    """What validating admission sees of a Job that is created.

    Defaults of Kubernetes' pkg/apis/core/v1 and pkg/apis/batch/v1, then PrepareForCreate of
    pkg/registry/batch/job. What has no `omitempty` is written as {} or null.
    """
    job = copy.deepcopy(job)
    metadata, spec = job["metadata"], job["spec"]
    metadata |= {"uid": UID, "creationTimestamp": CREATED, "generation": 1}
    metadata["managedFields"] = [
        {"manager": "OpenAPI-Generator", "operation": "Update", "apiVersion": "batch/v1"}
    ]
    defaults = {
        "completionMode": "NonIndexed",
        "suspend": False,
        "manualSelector": False,
        "podReplacementPolicy": "Failed",
        "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": UID}},
    }
    job["spec"] = defaults | spec
    for rule in spec["podFailurePolicy"]["rules"]:
        rule.setdefault("onPodConditions", None)
    template = spec["template"]
    template["metadata"]["creationTimestamp"] = None
    template["metadata"]["labels"] |= {
        "batch.kubernetes.io/controller-uid": UID,
        "batch.kubernetes.io/job-name": metadata["name"],
        "controller-uid": UID,
        "job-name": metadata["name"],
    }
    pod = template["spec"]
    template["spec"] = {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"} | pod
    template["spec"]["serviceAccount"] = pod["serviceAccountName"]
    return job | {"status": {}}


def updated(job: Manifest) -> Manifest:
    """The same once it is stored and runs."""
    stored = copy.deepcopy(job)
    stored["metadata"]["resourceVersion"] = "4711"
    stored["status"] = {"active": 1, "ready": 1, "startTime": CREATED}
    return stored


def pod_of(job: Manifest) -> Manifest:
    """The pod that the Job controller makes of a Job, with what admission has filled in by then."""
    template = copy.deepcopy(job["spec"]["template"])
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": UID,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata: dict[str, Any] = {
        "generateName": f"{job['metadata']['name']}-",
        "namespace": NAMESPACE,
        "labels": template["metadata"]["labels"],
        "finalizers": ["batch.kubernetes.io/job-tracking"],
        "ownerReferences": [owner],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": {}}
