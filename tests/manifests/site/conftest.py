"""The admission policies of each overlay, compiled once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.manifests.site.admission import Manifest
from tests.manifests.site.clusters import Cluster
from tests.manifests.site.overlays import CLOUDS, SITE, pins_of, policies_of


@pytest.fixture(scope="session")
def cluster_of(kustomized: Callable[[Path], list[Manifest]]) -> Callable[[str], Cluster]:
    """Makes the cluster of an overlay."""
    compiled: dict[str, Cluster] = {}

    def of(overlay: str) -> Cluster:
        if overlay not in compiled:
            objects = kustomized(SITE / overlay)
            compiled[overlay] = Cluster(objects=objects, policies=policies_of(objects), pins=pins_of(objects))
        return compiled[overlay]

    return of


@pytest.fixture(params=CLOUDS)
def cluster(request: pytest.FixtureRequest, cluster_of: Callable[[str], Cluster]) -> Cluster:
    """The cluster of each cloud in turn."""
    return cluster_of(request.param)


@pytest.fixture
def eks(cluster_of: Callable[[str], Cluster]) -> Cluster:
    """The one whose template has most in it: identity tokens, a node selector and tolerations."""
    return cluster_of("eks")


@pytest.fixture(scope="session")
def with_overlay() -> Callable[..., Path]:
    """Writes an owner's own overlay on a copy of the shipped ones."""

    def write(
        home: Path, *, overlay: str, component: str = "", agent_image: str = "", namespace: str = ""
    ) -> Path:
        shutil.copytree(SITE, home / "site")
        folder = home / "site" / "own"
        folder.mkdir()
        kustomization: Manifest = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"../{overlay}"],
        }
        if component:
            kustomization["components"] = [f"../{component}"]
            pins = home / "site" / overlay / "pins.yaml"
            document = yaml.safe_load(pins.read_text())
            document["data"]["agent-image"] = agent_image
            pins.write_text(yaml.safe_dump(document))
        if namespace:
            kustomization["namespace"] = namespace
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return folder

    return write
