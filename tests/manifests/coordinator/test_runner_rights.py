"""What the account of a run may do: three things, all of them named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from pipelines.federation import load_federation
from tests.manifests.coordinator.shipped_overlays import (
    MANIFESTS,
    NAMESPACES,
    OVERLAYS,
    Manifest,
    Overlay,
    of_kind,
)

RUNNER = "crosscloud-runner"
ALLOWED = {
    ("argoproj.io", "workflowtaskresults", "", "create"),
    ("argoproj.io", "workflowtaskresults", "", "patch"),
    ("", "configmaps", "kfp-launcher", "get"),
    ("", "secrets", "mlpipeline-minio-artifact", "get"),
}
"""API group, resource, name of the object (empty for any), verb."""


def rights(role: Manifest) -> Iterator[tuple[str, str, str, str]]:
    """Every single right that a role gives."""
    for rule in role["rules"]:
        assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames", [""]):
                    for verb in rule["verbs"]:
                        yield group, resource, name, verb


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_runner_has_these_rights_and_no_others(overlay: Overlay, name: str) -> None:
    roles = of_kind(overlay(name), "Role")
    assert [role["metadata"]["name"] for role in roles] == [RUNNER]
    assert set(rights(roles[0])) == ALLOWED
    assert not of_kind(overlay(name), "ClusterRole") + of_kind(overlay(name), "ClusterRoleBinding")


@pytest.mark.parametrize("name", OVERLAYS)
def test_secrets_are_named_and_only_read(overlay: Overlay, name: str) -> None:
    for group, resource, named, verb in rights(of_kind(overlay(name), "Role")[0]):
        assert "*" not in (group, resource, named, verb)
        if resource.startswith("secrets"):
            assert named
            assert verb == "get"


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_role_is_bound_to_the_runner_of_this_namespace_alone(overlay: Overlay, name: str) -> None:
    (binding,) = of_kind(overlay(name), "RoleBinding")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": RUNNER}
    account = {"kind": "ServiceAccount", "name": RUNNER, "namespace": NAMESPACES[name]}
    assert binding["subjects"] == [account]
    assert [each["metadata"]["name"] for each in of_kind(overlay(name), "ServiceAccount")] == [RUNNER]


def test_no_party_s_keys_can_be_read_through_the_api_server(overlay: Overlay) -> None:
    federation = load_federation(MANIFESTS / "base" / "federation.yaml")
    parties = [federation.coordinator, federation.aggregator, federation.key_holder]
    secrets = {
        placement.keys_secret for placement in [*parties, *(site.placement for site in federation.sites)]
    }
    secrets |= {site.placement.kubeconfig_secret for site in federation.sites}
    assert {"crosscloud-coordinator", "crosscloud-key-holder", "crosscloud-east"} <= secrets
    readable = {name for _, resource, name, _ in ALLOWED if resource == "secrets"}
    assert not readable & secrets
    spec = yaml.safe_dump_all(of_kind(overlay("kubernetes-native"), "PipelineVersion"))
    assert all(secret in spec for secret in secrets if secret)
