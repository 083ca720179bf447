"""No field escapes: every one that Kubernetes' schema has, and every leaf of the permitted Job."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import kubernetes_validate
import pytest

from tests.manifests.site.admission import Manifest
from tests.manifests.site.clusters import Cluster
from tests.manifests.site.forbidden import FORBIDDEN
from tests.manifests.site.variants import GONE, POD, STEP, keys_of, put

META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
CORE = "io.k8s.api.core.v1"
LEVELS = {
    "": "io.k8s.api.batch.v1.Job",
    "metadata": META,
    "spec": "io.k8s.api.batch.v1.JobSpec",
    "spec.template": f"{CORE}.PodTemplateSpec",
    "spec.template.metadata": META,
    POD: f"{CORE}.PodSpec",
    f"{POD}.securityContext": f"{CORE}.PodSecurityContext",
    STEP: f"{CORE}.Container",
    f"{STEP}.securityContext": f"{CORE}.SecurityContext",
    f"{STEP}.resources": f"{CORE}.ResourceRequirements",
}
"""Parts of a Job and their types. Parts that are not here are pinned as a whole, by equality."""

SERVERS = "the API server writes it, whatever a request says"
HARMLESS = {
    "apiVersion": "the request's address gives it",
    "kind": "the request's address gives it",
    "status": "the API server empties it on CREATE and keeps the stored one on UPDATE",
    "metadata.namespace": "the request's address gives it",
    "metadata.creationTimestamp": SERVERS,
    "metadata.generation": SERVERS,
    "metadata.resourceVersion": SERVERS,
    "metadata.uid": SERVERS,
    "metadata.managedFields": "who wrote which field: it has no effect on what runs",
    "metadata.deletionTimestamp": SERVERS,
    "metadata.deletionGracePeriodSeconds": SERVERS,
    "spec.template.metadata.creationTimestamp": "a template is never created; its pods have their own",
}

LABELS = "spec.template.metadata.labels"
MAY_GO = {
    f"{LABELS}[batch.kubernetes.io/controller-uid]": "the API server writes it",
    f"{LABELS}[batch.kubernetes.io/job-name]": "the API server writes it",
    f"{LABELS}.controller-uid": "the API server writes it; the older name",
    f"{LABELS}.job-name": "the API server writes it; the older name",
    "spec.manualSelector": "only clusters from 1.31 on write the default",
    "spec.podReplacementPolicy": "only clusters with the feature write the default",
    "spec.podFailurePolicy.rules.1.onPodConditions": "it is null: some API servers write it, some do not",
    f"{POD}.serviceAccount": "the old name of serviceAccountName, which the API server copies",
}
"""What the permitted Job has and another may lack, but not have otherwise."""


@cache
def definitions() -> dict[str, Any]:
    """The newest schema of Kubernetes' types that there is."""
    folder = files("kubernetes_validate") / "kubernetes-json-schema"
    newest = f"v{kubernetes_validate.latest_version()}-local-strict"
    found: dict[str, Any] = json.loads((folder / newest / "_definitions.json").read_text())["$defs"]
    return found


def fields() -> list[tuple[str, dict[str, Any]]]:
    """Path and schema of every field of every level."""
    types = definitions()
    return [
        (f"{path}.{name}".lstrip("."), schema)
        for path, named in LEVELS.items()
        for name, schema in types[named]["properties"].items()
    ]


def example(schema: dict[str, Any]) -> Any:
    """Some value of a field."""
    kinds = schema.get("type", "object")
    examples = {"array": [{}], "boolean": True, "integer": 1, "string": "x", "object": {"x": {}}}
    return examples[next(kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != "null")]


def test_every_field_of_the_schema_is_pinned_by_a_variant_or_harmless_for_a_reason() -> None:
    touched = {
        ".".join(keys_of(path)[: depth + 1]) for v in FORBIDDEN for path in v.paths for depth in range(12)
    }
    known = {".".join(keys_of(path)) for path, _ in fields()}
    assert known - touched - HARMLESS.keys() == set()
    assert HARMLESS.keys() <= known


def found_at(document: Any, path: str) -> Any:
    """What a path leads to, or None."""
    for key in keys_of(path):
        document = document[int(key)] if isinstance(document, list) else document.get(key)
        if document is None:
            break
    return document


def test_a_field_that_the_template_does_not_have_is_refused(eks: Cluster) -> None:
    permitted = eks.job()
    absent = [
        (path, schema)
        for path, schema in fields()
        if path not in HARMLESS and found_at(permitted, path) is None
    ]
    assert len(absent) > 70
    for path, schema in absent:
        job = eks.job()
        put(job, path, example(schema))
        found = eks.on_create(job)
        assert found, path
        assert [denial for denial in found if denial.error] == [], path


def leaves(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of everything in a document, mappings and lists included."""
    if path:
        yield path, part
    below = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in below:
        yield from leaves(value, f"{path}[{key}]" if "." in str(key) else f"{path}.{key}".lstrip("."))


def others(value: Any) -> Iterator[Any]:
    """Values near this one, and far from it."""
    match value:
        case bool():
            yield not value
        case int():
            yield from (value + 1, -value - 1, value * 1000 + 7)
        case str():
            yield from (f"{value}x", f" {value}", value.upper() + value[::-1], "")
        case None:
            yield "x"
        case list():
            yield from ([*value, copy.deepcopy(value[-1])], value[:-1], [*value[1:], "x"], [])
        case dict():
            yield from (value | {"zz": "x"}, {})


def is_harmless(path: str) -> bool:
    return any(path == known or path.startswith((f"{known}.", f"{known}[")) for known in HARMLESS)


@pytest.mark.parametrize("overlay", ["eks", "onprem"])
def test_no_leaf_of_the_permitted_job_can_be_another(
    cluster_of: Callable[[str], Cluster], overlay: str
) -> None:
    cluster = cluster_of(overlay)
    permitted = cluster.job()
    admitted: list[str] = []
    tried = 0
    for path, value in leaves(permitted):
        if is_harmless(path):
            continue
        for other in [*others(value), GONE]:
            changed = copy.deepcopy(permitted)
            put(changed, path, other)
            tried += 1
            if changed != permitted and cluster.admits(changed):
                admitted.append(f"{path}={other}")
    assert tried > 500
    shorter = ["spec.activeDeadlineSeconds=4201", "spec.activeDeadlineSeconds=-4201"]
    assert set(admitted) - set(shorter) == {f"{path}=gone" for path in MAY_GO}


def test_what_is_harmless_is_written_by_the_server_or_without_effect(eks: Cluster) -> None:
    job = eks.job()
    job["metadata"]["managedFields"] = []
    job["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    job["spec"]["template"]["metadata"].pop("creationTimestamp")
    assert eks.on_create(job) == []


def as_before(job: Manifest) -> Manifest:
    """A Job as Kubernetes 1.30 presents it: without defaults that came later."""
    job = copy.deepcopy(job)
    del job["spec"]["manualSelector"]
    return job


def test_the_permitted_job_is_admitted_on_old_and_new_clusters(cluster: Cluster) -> None:
    assert cluster.on_create(as_before(cluster.job())) == []
