"""The shipped overlays, built once, and one as somebody keeps it in a repository of his own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.coordinator.shipped_overlays import MANIFESTS, OVERLAYS, Manifest, Overlay


@pytest.fixture(scope="session")
def overlay(kustomized: Callable[[Path], list[Manifest]]) -> Overlay:
    """An overlay as it is shipped; its objects are shared, so tests must not change them."""
    built = {name: kustomized(MANIFESTS / "overlays" / name) for name in OVERLAYS}
    return built.__getitem__


@pytest.fixture
def own_overlay(
    kustomized: Callable[[Path], list[Manifest]], tmp_path: Path
) -> Callable[..., list[Manifest]]:
    """Builds an overlay over `base` in the namespace `pipelines`, with files in place of the example's."""

    def build(*, components: Sequence[str] = (), files: Sequence[Path] = ()) -> list[Manifest]:
        shutil.copytree(MANIFESTS, tmp_path / "coordinator")
        folder = tmp_path / "own"
        folder.mkdir()
        document: dict[str, Any] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "pipelines",
            "resources": ["../coordinator/base"],
            "components": [f"../coordinator/components/{name}" for name in components],
        }
        if files:
            for file in files:
                shutil.copy(file, folder)
            names = [file.name for file in files]
            document["configMapGenerator"] = [
                {"name": "crosscloud-federation", "behavior": "replace", "files": names}
            ]
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(document))
        return kustomized(folder)

    return build
