"""The packages of each image: pinned with all they need, enough for the role, and none it must not have."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from itertools import chain
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.images.role_files import ROLES, ROOT, instructions, requirements, role_file

EVERY_ROLE = pytest.mark.parametrize("role", ROLES)
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if "==" in line
)
PINNED = {canonicalize_name(name): version for name, version in PINS.items()}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FORBIDDEN_BY_LAYERS = next(
    contract["forbidden_modules"]
    for contract in PROJECT["tool"]["importlinter"]["contracts"]
    if contract["name"].startswith("the aggregator, the coordinator and the key holder need neither")
)
UNINSTALLED = {"setuptools"}
"""What images/install_packages.py takes out again."""

_ONLY = """
import importlib, os, sys

os.environ["_KFP_RUNTIME"] = "true"
hidden = set({hidden!r})

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
for module in {modules!r}:
    importlib.import_module(module)
"""


@EVERY_ROLE
def test_every_package_with_all_it_needs_is_pinned(role: str) -> None:
    assert {name for name in _installed(role) if name not in PINNED} == set()


@EVERY_ROLE
def test_asks_for_packages_of_the_project_and_no_others(role: str) -> None:
    project = PROJECT["project"]
    told = chain(project["dependencies"], *project["optional-dependencies"].values())
    known = {canonicalize_name(Requirement(each).name) for each in told}
    assert {canonicalize_name(name) for name in [*requirements(role), *_stores(role)]} <= known
    assert requirements(role) == sorted(requirements(role))


@EVERY_ROLE
def test_no_package_brings_a_module_that_must_be_absent(role: str) -> None:
    holders = packages_distributions()
    for module in role_file(role)["absent"]:
        top = module.partition(".")[0]
        if top in {"components", "google", "kfp"}:
            continue
        assert not {canonicalize_name(name) for name in holders.get(top, [])} & _installed(role), module


@pytest.mark.parametrize("role", ["aggregator", "key-holder"])
def test_what_the_layers_forbid_is_absent(role: str) -> None:
    forbidden = {"components.data_processing", "google.cloud.bigquery", *FORBIDDEN_BY_LAYERS}
    assert forbidden <= set(role_file(role)["absent"])
    assert not {"google-cloud-bigquery", "google-cloud-bigquery-storage"} & _installed(role)


def test_the_aggregator_cannot_decrypt() -> None:
    assert "tenseal" in role_file("aggregator")["absent"]


def test_only_the_aggregator_reaches_clusters() -> None:
    assert {role for role in ROLES if "kubernetes" in _installed(role)} == {"aggregator"}


@pytest.mark.slow
@EVERY_ROLE
def test_the_role_s_modules_import_with_nothing_else_installed(role: str) -> None:
    inside = _installed(role)
    hidden = [
        top
        for top, names in packages_distributions().items()
        if top != "components" and not {canonicalize_name(name) for name in names} & inside
    ]
    code = _ONLY.format(hidden=sorted(hidden), modules=role_file(role)["modules"])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _stores(role: str) -> list[str]:
    """The stores' clients that are installed if nothing else is said."""
    (line,) = [line for line in instructions(role, "ARG") if line.startswith("STORES=")]
    return line.partition("=")[2].strip('"').split()


def _installed(role: str) -> set[str]:
    """Names of all packages of an image, from what is installed here; kfp comes without what it needs."""
    found: set[str] = set()
    waiting = [*requirements(role), *_stores(role)]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        waiting.extend(_needs(name))
    return (found | {"kfp"}) - UNINSTALLED


def _needs(name: str) -> list[str]:
    try:
        told = distribution(name).requires or []
    except PackageNotFoundError:
        return []
    asked = [Requirement(each) for each in told]
    return [each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
