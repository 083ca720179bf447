"""What tests of manifests share: overlays as kustomize builds them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]
BUILDERS = (("kubectl", "kustomize"), ("kustomize", "build"))
"""Either brings kustomize."""


@lru_cache
def _built(folder: Path) -> str:
    command = next((each for each in BUILDERS if shutil.which(each[0])), None)
    if command is None:
        pytest.skip("neither kubectl nor kustomize is installed: overlays cannot be built")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def kustomized() -> Callable[[Path], list[Manifest]]:
    """Builds the kustomization of a folder: every object, freshly parsed."""

    def build(folder: Path) -> list[Manifest]:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return [document for document in yaml.load_all(_built(folder), Loader=loader) if document]

    return build
