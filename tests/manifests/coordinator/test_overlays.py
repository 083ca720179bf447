"""Every overlay builds and is what an API server would take, field by field."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
from yamllint import linter
from yamllint.config import YamlLintConfig

from tests.manifests.coordinator.shipped_overlays import (
    MANIFESTS,
    NAMESPACES,
    OVERLAYS,
    SCHEMAS,
    Manifest,
    Overlay,
    of_kind,
)

OF_THE_CLUSTER = {"Namespace", "Profile"}
KUBERNETES = ("1.30", "1.37")
OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_has_known_fields_only(overlay: Overlay, name: str, version: str) -> None:
    for manifest in overlay(name):
        if manifest["kind"] in SCHEMAS:
            jsonschema.validate(manifest, SCHEMAS[manifest["kind"]])
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_validation_refuses_a_field_that_does_not_exist(overlay: Overlay) -> None:
    account = of_kind(overlay("standalone"), "ServiceAccount")[0]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(account | {"rules": []}, KUBERNETES[-1], strict=True)
    version = of_kind(overlay("kubernetes-native"), "PipelineVersion")[0]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(version | {"status": {}}, SCHEMAS["PipelineVersion"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_lies_in_the_overlay_s_namespace(overlay: Overlay, name: str) -> None:
    manifests = overlay(name)
    assert {kind for kind in (each["kind"] for each in manifests) if kind in OF_THE_CLUSTER} == (
        OF_THE_CLUSTER if name == "multi-user" else set()
    )
    for manifest in manifests:
        expected = None if manifest["kind"] in OF_THE_CLUSTER else NAMESPACES[name]
        assert manifest["metadata"].get("namespace") == expected, manifest["metadata"]
        assert OBJECT_NAME.fullmatch(manifest["metadata"]["name"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_object_stands_twice_and_no_secret_is_shipped(overlay: Overlay, name: str) -> None:
    named = [(each["kind"], each["metadata"]["name"]) for each in overlay(name)]
    assert len(named) == len(set(named))
    assert not of_kind(overlay(name), "Secret")


def test_the_profile_s_namespace_is_restricted_and_belongs_to_its_owner(overlay: Overlay) -> None:
    manifests = overlay("multi-user")
    namespace, profile = of_kind(manifests, "Namespace")[0], of_kind(manifests, "Profile")[0]
    labels = namespace["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {
        "restricted"
    }
    assert namespace["metadata"]["annotations"] == {"owner": profile["spec"]["owner"]["name"]}
    assert profile["metadata"]["name"] == namespace["metadata"]["name"] == NAMESPACES["multi-user"]


def test_the_addresses_of_the_places_are_not_applied(overlay: Overlay) -> None:
    for name in OVERLAYS:
        maps = [each["metadata"]["name"] for each in of_kind(overlay(name), "ConfigMap")]
        assert maps == ["crosscloud-federation"]


def test_yamllint_finds_nothing() -> None:
    config = YamlLintConfig(file="manifests/.yamllint.yaml")
    files = [path for path in MANIFESTS.rglob("*.yaml") if not config.is_file_ignored(path.name)]
    assert len(files) >= 9
    found = {str(path): list(linter.run(path.read_text(), config)) for path in files}
    assert not {path: problems for path, problems in found.items() if problems}


def labels(manifest: Manifest) -> dict[str, str]:
    """Of an object."""
    found: dict[str, str] = manifest["metadata"].get("labels", {})
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_is_ours_says_so(overlay: Overlay, name: str) -> None:
    ours = [each for each in overlay(name) if each["kind"] not in SCHEMAS and each["kind"] != "Namespace"]
    assert ours
    assert all(labels(each).get("app.kubernetes.io/part-of") == "crosscloud" for each in ours)


def test_every_overlay_of_the_folder_is_tested() -> None:
    folders = {path.parent.name for path in Path(MANIFESTS / "overlays").glob("*/kustomization.yaml")}
    assert folders == set(OVERLAYS)
