"""The site's own Job is admitted as a dispatcher fills it in; a Job that differs anywhere is not."""

from __future__ import annotations

import copy

import pytest

from components.site_steps.steps import STEPS
from tests.manifests.site.clusters import Cluster
from tests.manifests.site.forbidden import FORBIDDEN
from tests.manifests.site.variants import Variant, keys_of

ONE_OF_EACH = list({variant.topic: variant for variant in FORBIDDEN}.values())
"""The last variant of each topic: on UPDATE the same rules are asked."""


@pytest.mark.parametrize("step", sorted(STEPS))
def test_every_step_of_the_template_is_admitted(cluster: Cluster, step: str) -> None:
    job = cluster.job(step)
    assert cluster.on_create(job) == []
    assert cluster.on_update(job, job) == []


def test_the_pins_name_every_step_there_is(cluster: Cluster) -> None:
    assert set(cluster.pins["steps"].split(" ")) == set(STEPS)


@pytest.mark.parametrize("variant", FORBIDDEN, ids=str)
def test_a_job_that_differs_is_refused_by_what_pins_the_field(eks: Cluster, variant: Variant) -> None:
    permitted = eks.job()
    found = eks.on_create(variant.of(permitted))
    assert variant.topic in {denial.topic for denial in found}
    assert [denial for denial in found if denial.error and denial.topic != "update"] == []


@pytest.mark.parametrize("variant", ONE_OF_EACH, ids=str)
def test_it_cannot_become_one_by_an_update_either(eks: Cluster, variant: Variant) -> None:
    permitted = eks.job()
    changed = variant.of(permitted)
    topics = {denial.topic for denial in eks.on_update(permitted, changed)}
    assert variant.topic in topics
    assert ("update" in topics) == any(keys_of(path)[0] == "spec" for path in variant.paths)


def test_no_variant_stands_twice_and_every_validation_has_one(eks: Cluster) -> None:
    assert len({str(variant.changes) for variant in FORBIDDEN}) == len(FORBIDDEN) >= 120
    of_jobs = [policy for policy in eks.policies if policy.name.startswith("crosscloud-job")]
    topics = [message.partition(":")[0] for policy in of_jobs for message, _ in policy.validations]
    assert len(set(topics)) == len(topics)
    # What the pins themselves must be, and updates, have tests of their own.
    assert set(topics) - {"pinned image", "update"} == {variant.topic for variant in FORBIDDEN}


@pytest.mark.parametrize("step", sorted(STEPS.keys() - {"augment", "train"}))
def test_a_step_that_computes_nothing_large_gets_no_accelerator(eks: Cluster, step: str) -> None:
    job = eks.job(step)
    for side in ("limits", "requests"):
        job["spec"]["template"]["spec"]["containers"][0]["resources"][side]["nvidia.com/gpu"] = "1"
    assert [denial.topic for denial in eks.on_create(job)] == ["accelerator"]


def test_updates_change_nothing_but_what_the_server_writes(eks: Cluster) -> None:
    job = eks.job()
    touched = copy.deepcopy(job)
    touched["metadata"]["managedFields"] = []
    touched["metadata"]["generation"] = 2
    assert eks.on_update(job, touched) == []
    shorter = copy.deepcopy(job)
    shorter["spec"]["activeDeadlineSeconds"] = 60
    assert [denial.topic for denial in eks.on_update(job, shorter)] == ["update"]


def test_a_job_that_was_there_before_the_policies_cannot_be_touched(eks: Cluster) -> None:
    job = eks.job()
    job["spec"]["template"]["spec"]["hostNetwork"] = True
    assert {denial.topic for denial in eks.on_update(job, job)} == {"host namespaces", "pod fields"}


def deleted(job: dict[str, object], finalizers: list[str]) -> dict[str, object]:
    job = copy.deepcopy(job)
    metadata = job["metadata"]
    assert isinstance(metadata, dict)
    metadata["deletionTimestamp"] = "2026-11-28T13:00:00Z"
    if finalizers:
        metadata["finalizers"] = finalizers
    return job


def test_a_deleted_job_loses_its_finalizers_under_whatever_pins(eks: Cluster) -> None:
    rotated = Cluster(
        objects=eks.objects,
        policies=eks.policies,
        pins=eks.pins | {"image": eks.pins["image"].replace("0" * 64, "1" * 64)},
    )
    job = eks.job()
    held, free = deleted(job, ["foregroundDeletion"]), deleted(job, [])
    assert rotated.on_update(held, free) == []
    assert "image" in {denial.topic for denial in rotated.on_update(job, job)}
    swapped = copy.deepcopy(free)
    swapped["spec"]["suspend"] = True  # type: ignore[index]
    assert "update" in {denial.topic for denial in rotated.on_update(held, swapped)}
    assert "finalizers" in {denial.topic for denial in rotated.on_update(held, held)}
    labelled = copy.deepcopy(free)
    labelled["metadata"]["labels"]["x"] = "y"  # type: ignore[index]
    assert "labels" in {denial.topic for denial in rotated.on_update(held, labelled)}
    orphan = deleted(job, [])
    assert "finalizers" in {denial.topic for denial in rotated.on_update(job, held)}
    assert rotated.on_update(orphan, orphan) == []
