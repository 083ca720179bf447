"""Where steps may run, as a federation file says it: one line for each mistake."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.placement_sections import Accelerator, Images, Placement, SitePlacement, Toleration


def problems(section: type, **given: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        section.model_validate(given)  # type: ignore[attr-defined]
    return [
        line
        for each in caught.value.errors(include_url=False)
        for line in each["msg"].removeprefix("Value error, ").splitlines()
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("node_selector", {"cloud": "a"}),
        ("tolerations", [{"key": "gpu"}]),
        ("memory", "8Gi"),
        ("image_pull_secrets", ["registry"]),
        ("keys_secret", "keys"),
    ],
)
def test_what_is_a_sites_own_to_choose_is_not_the_files(name: str, value: Any) -> None:
    assert problems(SitePlacement, kind="kubernetes-job", **{name: value}) == [
        f"{name} is the site's to choose under kind kubernetes-job: it stands in its own template of a Job"
    ]


@pytest.mark.parametrize(
    ("name", "value"), [("door", "agent"), ("namespace", "research"), ("kubeconfig_secret", "opens")]
)
def test_what_is_of_jobs_has_no_meaning_in_a_node_pool(name: str, value: str) -> None:
    assert problems(SitePlacement, **{name: value}) == [
        f"{name} belongs to kind kubernetes-job, got kind node-pool"
    ]


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(
        SitePlacement, kind="kubernetes-job", door="agent", memory="1Gi", kubeconfig_secret="opens"
    )
    assert len(found) == 2
    assert "kubeconfig_secret is not needed by door agent" in found[1]


@pytest.mark.parametrize(
    ("section", "given"),
    [
        (SitePlacement, {"kind": "docker"}),
        (SitePlacement, {"kind": "kubernetes-job", "door": "window"}),
        (SitePlacement, {"kind": "kubernetes-job", "namespace": "Kube_System"}),
        (SitePlacement, {"kind": "kubernetes-job", "kubeconfig_secret": "../x"}),
        (Placement, {"kind": "kubernetes-job"}),
        (Placement, {"deadline_seconds": 60}),
        (Placement, {"image_pull_secrets": ["UPPER"]}),
        (Accelerator, {"type": "hostPath"}),
        (Accelerator, {"type": "nvidia.com/gpu", "count": 0}),
        (Images, {"registry": "https://registry.example"}),
        (Images, {"registry": "Registry.example"}),
        (Images, {"site": "sha256:abc"}),
        (Images, {"site": "latest"}),
        (Toleration, {"key": "k", "operator": "Equal"}),
        (Toleration, {"key": "k", "value": "v"}),
        (Toleration, {"key": ""}),
        (Toleration, {"key": "k", "effect": "Never"}),
    ],
)
def test_a_value_that_kubernetes_would_not_take_is_refused(section: type, given: dict[str, Any]) -> None:
    assert len(problems(section, **given)) == 1


def test_what_is_written_down_is_read_again() -> None:
    for given in (
        {"node_selector": {"a": "b"}, "deadline_seconds": 60},
        {"kind": "kubernetes-job", "kubeconfig_secret": "opens", "accelerator": {"count": 2}},
        {"kind": "kubernetes-job", "door": "agent", "namespace": "research"},
    ):
        section = SitePlacement.model_validate(given)
        assert SitePlacement.model_validate(section.model_dump()) == section
