"""What the accounts of a site's namespace may do, by the rules of RBAC."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.manifests.site.admission import Manifest
from tests.manifests.site.overlays import CLOUDS, SITE, named

RIGHTS = {
    *(("batch", "jobs", verb, "") for verb in ("create", "get", "list", "watch", "delete")),
    ("", "configmaps", "get", "crosscloud-step"),
    ("", "pods", "list", ""),
}

Build = Callable[[Path], list[Manifest]]


def rights(role: Manifest) -> set[tuple[str, str, str, str]]:
    """Group, resource, verb and name of everything a role allows."""
    return {
        (group, resource, verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


@pytest.fixture(params=["dispatcher", "agent"])
def door(
    request: pytest.FixtureRequest, kustomized: Build, tmp_path: Path, with_overlay: Callable[..., Path]
) -> tuple[str, list[Manifest]]:
    """Who creates Jobs, and the objects that are applied."""
    if request.param == "dispatcher":
        return request.param, kustomized(SITE / "gke")
    folder = with_overlay(tmp_path, overlay="gke", component="agent", agent_image="x@sha256:0")
    return request.param, kustomized(folder)


def test_whoever_creates_jobs_has_these_rights_and_no_others(door: tuple[str, list[Manifest]]) -> None:
    name, objects = door
    roles = [each for each in objects if each["kind"] == "Role"]
    assert [rights(role) for role in roles] == [RIGHTS]
    (binding,) = [each for each in objects if each["kind"] == "RoleBinding"]
    subject = {"kind": "ServiceAccount", "name": f"crosscloud-{name}", "namespace": "crosscloud"}
    assert binding["subjects"] == [subject]
    assert binding["roleRef"]["name"] == roles[0]["metadata"]["name"]


def test_no_account_has_a_token_mounted_unasked(door: tuple[str, list[Manifest]]) -> None:
    name, objects = door
    accounts = {
        each["metadata"]["name"]: each["automountServiceAccountToken"]
        for each in objects
        if each["kind"] == "ServiceAccount"
    }
    assert accounts == {"crosscloud-step": False, f"crosscloud-{name}": False}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_an_identity_that_reads_records_is_the_step_s_alone(kustomized: Build, cloud: str) -> None:
    objects = kustomized(SITE / cloud)
    assert "annotations" not in named(objects, "ServiceAccount", "crosscloud-dispatcher")["metadata"]
