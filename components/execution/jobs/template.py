"""The site's own Job, completed for one step: what is filled in, and what must stand there already.

The template belongs to the site. Most of it (images, volumes, identity, environment) is the site's own
affair and held to its admission policy; what is checked here is what the dispatcher relies on.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import yaml

from components.execution.jobs.order import START_GRACE_S, JobOrder
from components.execution.jobs.refusals import TemplateError

TEMPLATE_CONFIG_MAP = "crosscloud-step"
TEMPLATE_KEY = "job.yaml"
CONTAINER = "step"
COMMAND = ["python3", "-m", "components.site_steps.job"]
STEP_LABEL = "crosscloud.dev/step"
LABELS = {"app.kubernetes.io/name": "crosscloud-step", "app.kubernetes.io/managed-by": "crosscloud"}
_ORDINARY_RESOURCES = {"cpu", "memory", "ephemeral-storage"}
_SHORTEST_TTL_S = 60
_LARGEST_TEMPLATE = 1 << 16
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_JOB_FIELDS = {"apiVersion", "kind", "metadata", "spec"}
_SPEC_FIELDS = {
    "backoffLimit",
    "completions",
    "completionMode",
    "parallelism",
    "podFailurePolicy",
    "podReplacementPolicy",
    "suspend",
    "template",
    "ttlSecondsAfterFinished",
}
_POD = "spec.template.spec"
_STEP_CONTAINER = f"{_POD}.containers[0]"


def read_template(text: str) -> dict[str, Any]:
    """The template as the site wrote it.

    Raises:
        TemplateError: it is not one YAML mapping.
    """
    if len(text) > _LARGEST_TEMPLATE:
        raise TemplateError(TEMPLATE_KEY, f"must have at most {_LARGEST_TEMPLATE:,} characters")
    try:
        # A few hundred aliases of aliases are gigabytes once they are written out.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_LOADER)):
            raise TemplateError(TEMPLATE_KEY, "must have no aliases (*name): write them out")
        template = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe one
    except (yaml.YAMLError, RecursionError, ValueError):
        raise TemplateError(TEMPLATE_KEY, "must be YAML") from None
    if not isinstance(template, dict):
        raise TemplateError(TEMPLATE_KEY, "must be one batch/v1 Job")
    return template


def fill_template(
    template: Mapping[str, Any], order: JobOrder, namespace: str, *, start_grace_s: float = START_GRACE_S
) -> dict[str, Any]:
    """A copy of the template as the Job that does `order`.

    Filled in: name, namespace, the label of the step, the container's arguments, the deadline and the
    accelerator. Nothing else.

    Args:
        template: the site's, from `read_template`.
        order: the step.
        namespace: of the Job.
        start_grace_s: seconds added to the step's deadline for a Job that waits for its node.

    Raises:
        TemplateError: it is not of the form that the dispatcher relies on, or fills in itself what is the
            dispatcher's to fill in. It names the first such field.
    """
    _check(template)
    job = copy.deepcopy(dict(template))
    job["metadata"] |= {"name": order.job, "namespace": namespace}
    job["metadata"]["labels"][STEP_LABEL] = order.step
    spec = job["spec"]
    spec["activeDeadlineSeconds"] = order.deadline_s + math.ceil(start_grace_s)
    spec["template"]["metadata"]["labels"][STEP_LABEL] = order.step
    container = spec["template"]["spec"]["containers"][0]
    container["args"] = order.arguments
    if order.accelerator:
        resources = container.setdefault("resources", {})
        for side in ("limits", "requests"):
            # Extended resources are whole numbers; a string is how the API server keeps them.
            resources.setdefault(side, {})[order.accelerator.type] = str(order.accelerator.count)
    return job


def _check(template: Mapping[str, Any]) -> None:
    _only(template, "", _JOB_FIELDS)
    _equal(template, "", {"apiVersion": "batch/v1", "kind": "Job"})
    _only(_mapping(template, "metadata"), "metadata", {"labels"})
    _equal(template["metadata"], "metadata", {"labels": LABELS})
    spec = _mapping(template, "spec")
    _only(spec, "spec", _SPEC_FIELDS)
    _equal(spec, "spec", {"backoffLimit": 0, "completions": 1, "parallelism": 1})
    if spec.get("completionMode", "NonIndexed") != "NonIndexed":
        raise TemplateError("spec.completionMode", "must be NonIndexed or absent")
    if spec.get("suspend", False) is not False:
        raise TemplateError("spec.suspend", "must be false or absent")
    ttl = spec.get("ttlSecondsAfterFinished")
    if type(ttl) is not int or ttl < _SHORTEST_TTL_S:
        # A Job that is gone before its dispatcher looked cannot be told from one that was deleted.
        raise TemplateError("spec.ttlSecondsAfterFinished", f"must be {_SHORTEST_TTL_S} seconds or more")
    pod = _mapping(spec, "template", "spec.")
    _only(pod, "spec.template", {"metadata", "spec"})
    _only(_mapping(pod, "metadata", "spec.template."), "spec.template.metadata", {"labels"})
    _equal(pod["metadata"], "spec.template.metadata", {"labels": LABELS})
    _check_pod(_mapping(pod, "spec", "spec.template."))


def _check_pod(pod: Mapping[str, Any]) -> None:
    for field in ("initContainers", "ephemeralContainers", "activeDeadlineSeconds"):
        if field in pod:
            raise TemplateError(f"{_POD}.{field}", "must be absent")
    wanted = {
        "restartPolicy": "Never",
        "serviceAccountName": "crosscloud-step",
        "automountServiceAccountToken": False,
    }
    _equal(pod, _POD, wanted)
    containers = pod.get("containers")
    if not isinstance(containers, list) or len(containers) != 1 or not isinstance(containers[0], dict):
        raise TemplateError(f"{_POD}.containers", f"must be one container, named {CONTAINER}")
    container = containers[0]
    _equal(
        container,
        _STEP_CONTAINER,
        {"name": CONTAINER, "command": COMMAND, "terminationMessagePolicy": "File"},
    )
    if "args" in container:
        raise TemplateError(f"{_STEP_CONTAINER}.args", "must be absent: the dispatcher fills it in")
    _check_resources(container)


def _check_resources(container: Mapping[str, Any]) -> None:
    if "resources" not in container:
        return
    path = f"{_STEP_CONTAINER}.resources"
    resources = _mapping(container, "resources", f"{_STEP_CONTAINER}.")
    _only(resources, path, {"limits", "requests"})
    for side in resources:
        _only(_mapping(resources, side, f"{path}."), f"{path}.{side}", _ORDINARY_RESOURCES)


def _mapping(parent: Mapping[str, Any], field: str, prefix: str = "") -> Mapping[str, Any]:
    value = parent.get(field)
    if not isinstance(value, dict):
        raise TemplateError(f"{prefix}{field}", "must be a mapping")
    return value


def _only(part: Mapping[str, Any], path: str, allowed: set[str]) -> None:
    unknown = next((key for key in part if key not in allowed), None)
    if unknown is not None:
        raise TemplateError(f"{path}.{unknown}" if path else str(unknown), "must be absent")


def _equal(part: Mapping[str, Any], path: str, wanted: Mapping[str, Any]) -> None:
    for field, value in wanted.items():
        # In Python 0 equals False; in a Job it does not.
        if field not in part or type(part[field]) is not type(value) or part[field] != value:
            shown = f"{path}.{field}" if path else field
            raise TemplateError(shown, f"must be {value!r}")
