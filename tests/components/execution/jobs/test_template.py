from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from components.execution.jobs.order import START_GRACE_S, Accelerator, JobOrder
from components.execution.jobs.refusals import TemplateError
from components.execution.jobs.template import fill_template, read_template
from tests.jobs_api.templates import template

REQUEST = "0123456789abcdef" * 4
ORDER = JobOrder(step="train", request=REQUEST, deadline_s=3600)
MANIFESTS = Path("manifests/site")

Change = Callable[[dict[str, Any]], object]


def pod(of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = of["spec"]["template"]["spec"]
    return found


def container(of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod(of)["containers"][0]
    return found


def test_exactly_what_is_agreed_is_filled_in() -> None:
    accelerator = Accelerator(type="nvidia.com/gpu", count=2)
    order = JobOrder(step="train", request=REQUEST, deadline_s=3600, accelerator=accelerator)
    job = fill_template(template(), order, "crosscloud-alpha")
    expected = template()
    expected["metadata"] |= {"name": "crosscloud-train-0123456789abcdef0123", "namespace": "crosscloud-alpha"}
    expected["metadata"]["labels"]["crosscloud.dev/step"] = "train"
    expected["spec"]["activeDeadlineSeconds"] = 3600 + START_GRACE_S
    expected["spec"]["template"]["metadata"]["labels"]["crosscloud.dev/step"] = "train"
    container(expected)["args"] = ["train", REQUEST]
    container(expected)["resources"]["limits"]["nvidia.com/gpu"] = "2"
    container(expected)["resources"]["requests"]["nvidia.com/gpu"] = "2"
    assert job == expected
    kubernetes_validate.validate(job, "1.31", strict=True)


def test_an_accelerator_is_given_to_a_container_without_resources() -> None:
    given = template()
    del container(given)["resources"]
    order = JobOrder(
        step="augment", request=REQUEST, deadline_s=5, accelerator=Accelerator(type="amd.com/gpu", count=1)
    )
    resources = container(fill_template(given, order, "n"))["resources"]
    assert resources == {"limits": {"amd.com/gpu": "1"}, "requests": {"amd.com/gpu": "1"}}


def test_the_template_is_not_changed_and_the_same_order_gives_the_same_job() -> None:
    given = template()
    kept = copy.deepcopy(given)
    assert fill_template(given, ORDER, "n") == fill_template(given, ORDER, "n")
    assert given == kept


def test_a_part_of_a_second_counts_as_one() -> None:
    assert fill_template(template(), ORDER, "n", start_grace_s=0.5)["spec"]["activeDeadlineSeconds"] == 3601


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*/job.yaml")), ids=lambda path: path.parent.name)
def test_the_manifests_templates_are_of_that_form(path: Path) -> None:
    job = fill_template(read_template(path.read_text()), ORDER, "crosscloud")
    assert container(job)["args"] == ["train", REQUEST]


CHANGES: dict[str, Change] = {
    "apiVersion": lambda t: t.update(apiVersion="batch/v1beta1"),
    "kind": lambda t: t.update(kind="CronJob"),
    "status": lambda t: t.update(status={}),
    "metadata": lambda t: t.update(metadata=None),
    "metadata.name": lambda t: t["metadata"].update(name="mine"),
    "metadata.generateName": lambda t: t["metadata"].update(generateName="mine-"),
    "metadata.namespace": lambda t: t["metadata"].update(namespace="other"),
    "metadata.annotations": lambda t: t["metadata"].update(annotations={}),
    "metadata.finalizers": lambda t: t["metadata"].update(finalizers=["x/y"]),
    "metadata.labels": lambda t: t["metadata"]["labels"].update({"crosscloud.dev/step": "seal"}),
    "spec": lambda t: t.update(spec=[]),
    "spec.activeDeadlineSeconds": lambda t: t["spec"].update(activeDeadlineSeconds=5),
    "spec.backoffLimit": lambda t: t["spec"].update(backoffLimit=False),
    "spec.completions": lambda t: t["spec"].update(completions=2),
    "spec.parallelism": lambda t: t["spec"].pop("parallelism"),
    "spec.completionMode": lambda t: t["spec"].update(completionMode="Indexed"),
    "spec.suspend": lambda t: t["spec"].update(suspend=True),
    "spec.managedBy": lambda t: t["spec"].update(managedBy="example.org/kueue"),
    "spec.selector": lambda t: t["spec"].update(selector={}),
    "spec.ttlSecondsAfterFinished": lambda t: t["spec"].update(ttlSecondsAfterFinished=0),
    "spec.template": lambda t: t["spec"].update(template="x"),
    "spec.template.metadata": lambda t: t["spec"]["template"].pop("metadata"),
    "spec.template.metadata.labels": lambda t: t["spec"]["template"]["metadata"].update(labels={}),
    "spec.template.metadata.annotations": lambda t: t["spec"]["template"]["metadata"].update(annotations={}),
    "spec.template.spec": lambda t: t["spec"]["template"].update(spec=None),
    "spec.template.spec.initContainers": lambda t: pod(t).update(initContainers=[]),
    "spec.template.spec.ephemeralContainers": lambda t: pod(t).update(ephemeralContainers=[]),
    "spec.template.spec.activeDeadlineSeconds": lambda t: pod(t).update(activeDeadlineSeconds=5),
    "spec.template.spec.restartPolicy": lambda t: pod(t).update(restartPolicy="OnFailure"),
    "spec.template.spec.serviceAccountName": lambda t: pod(t).update(serviceAccountName="default"),
    "spec.template.spec.automountServiceAccountToken": lambda t: pod(t).pop("automountServiceAccountToken"),
    "spec.template.spec.containers": lambda t: pod(t)["containers"].append({"name": "sidecar"}),
    "spec.template.spec.containers[0].name": lambda t: container(t).update(name="main"),
    "spec.template.spec.containers[0].command": lambda t: container(t)["command"].append("-v"),
    "spec.template.spec.containers[0].args": lambda t: container(t).update(args=["train"]),
    "spec.template.spec.containers[0].terminationMessagePolicy": lambda t: container(t).update(
        terminationMessagePolicy="FallbackToLogsOnError"
    ),
    "spec.template.spec.containers[0].resources": lambda t: container(t).update(resources=3),
    "spec.template.spec.containers[0].resources.claims": lambda t: container(t)["resources"].update(
        claims=[]
    ),
    "spec.template.spec.containers[0].resources.limits.nvidia.com/gpu": lambda t: container(t)["resources"][
        "limits"
    ].update({"nvidia.com/gpu": "8"}),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_template_of_another_form_is_refused_by_its_field(field: str) -> None:
    given = template()
    CHANGES[field](given)
    with pytest.raises(TemplateError) as caught:
        fill_template(given, ORDER, "n")
    assert caught.value.told == f"failed: template {field}"
    line = str(caught.value)
    assert line.startswith("the Job template of the site (ConfigMap crosscloud-step, job.yaml): ")
    assert f" {field} must be " in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "text", ["", "- a", "{", "a: &a [*a]\n: :", "!!python/object:os.system {}", "kind: Job"]
)
def test_text_that_is_no_job_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        fill_template(read_template(text), ORDER, "n")


def test_a_template_of_aliases_is_refused_before_it_grows() -> None:
    """Ten levels of ten aliases are ten thousand million values."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11)]
    with pytest.raises(TemplateError, match="must have no aliases"):
        read_template("\n".join(levels))


def test_a_template_that_is_too_long_is_refused() -> None:
    with pytest.raises(TemplateError, match="at most 65,536 characters"):
        read_template("# " + "x" * (1 << 16))
