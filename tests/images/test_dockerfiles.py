"""The Dockerfiles: clean by hadolint, without privileges, labelled, with the code of their role alone."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from components import images
from components.site_steps.steps import STEPS
from tests.images.role_files import FOLDER, ROLES, ROOT, dockerfile, instructions, role_file

EVERY_ROLE = pytest.mark.parametrize("role", ROLES)
# A dispatcher runs the component of a site's step, in the aggregator's image.
CONSTANTS = {
    "site": ["SITE"],
    "aggregator": ["AGGREGATOR", "SITE"],
    "key-holder": ["KEY_HOLDER"],
    "comparison": ["COMPARISON"],
}
NAMED_BY_TEXT = {
    "site": (*(target.partition(":")[0] for target in STEPS.values()), "components.site_steps.job"),
    "aggregator": (
        "components.execution.jobs",
        "components.site_steps.agent",
        "components.site_steps.dispatch",
        "components.site_steps.running",
    ),
    "key-holder": (),
    "comparison": (),
}
"""Modules that a Job, a site's agent or a table of steps starts with."""


@EVERY_ROLE
def test_hadolint_finds_nothing(role: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, FOLDER / role / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@EVERY_ROLE
def test_runs_as_the_user_that_kubernetes_is_told(role: str) -> None:
    assert instructions(role, "USER") == [f"{images.USER}:{images.USER}"]
    (setup,) = [line for line in instructions(role, "RUN") if "useradd" in line]
    assert re.findall(r"--[ug]id (\d+)", setup) == [str(images.USER)] * 3
    assert f"install -d -o {images.USER} -g {images.USER} -m 0700 /work" in setup


@EVERY_ROLE
def test_labels_say_what_it_is(role: str) -> None:
    (line,) = instructions(role, "LABEL")
    labels = dict(pair.split("=", 1) for pair in shlex.split(line))
    assert labels["org.opencontainers.image.version"] == images.VERSION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.title"] == f"crosscloud {role}"
    assert labels["dev.crosscloud.role"] == role_file(role)["role"] == role


@EVERY_ROLE
def test_what_stays_comes_from_the_build_stage_or_is_the_smoke_command(role: str) -> None:
    build, final = dockerfile(role).split("FROM ${BASE}")[1:]
    assert build.startswith(" AS build\n")
    assert re.findall(r"^COPY (.+)$", final, re.MULTILINE) == [
        "--from=build /opt/crosscloud /opt/crosscloud",
        "--from=build /build/code /opt/crosscloud/lib/python3.11/site-packages",
        f"images/smoke.py images/{role}/role.json /opt/crosscloud/",
    ]
    assert instructions(role, "CMD") == ['["python3", "/opt/crosscloud/smoke.py"]']
    assert not re.search(r"apt|dnf|install_packages|pip install", final)


@EVERY_ROLE
def test_the_settings_of_pip_stay_in_the_build_stage(role: str) -> None:
    build, final = dockerfile(role).split("FROM ${BASE}")[1:]
    assert {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"} <= set(re.findall(r"^ARG (\w+)", build, re.MULTILINE))
    assert "ARG" not in final


@EVERY_ROLE
def test_writes_where_a_site_s_template_mounts_volumes_and_nowhere_else(role: str) -> None:
    (line,) = instructions(role, "ENV")
    set_to = dict(pair.split("=", 1) for pair in shlex.split(line))
    assert {set_to["CROSSCLOUD_HOME"], set_to["HOME"]} == {"/work"}
    assert set_to["TMPDIR"] == "/tmp"
    assert set_to["PYTHONDONTWRITEBYTECODE"] == "1"


@EVERY_ROLE
def test_holds_the_code_that_its_steps_import_and_no_other_folder(role: str) -> None:
    needed = {_folder(module) for module in _closure(_entries(role))}
    assert _copied(role) == needed - {"components", "components.errors", "components.images"}


@EVERY_ROLE
def test_the_smoke_command_imports_every_module_that_a_step_starts_with(role: str) -> None:
    assert set(_entries(role)) <= {*role_file(role)["modules"], *_closure(role_file(role)["modules"])}


def test_no_component_py_gets_into_an_image() -> None:
    assert "**/component.py" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def _copied(role: str) -> set[str]:
    """Folders of `components` that a Dockerfile copies, as packages."""
    lines = [line.split() for line in instructions(role, "COPY") if line.startswith("components/")]
    folders = [source for *sources, _ in lines for source in sources if not source.endswith(".py")]
    assert all((ROOT / folder).is_dir() for folder in folders)
    return {folder.replace("/", ".") for folder in folders}


def _entries(role: str) -> list[str]:
    """Modules that the bodies of a role's components import, and what is named by text."""
    found: set[str] = set()
    for path in (ROOT / "components").glob("*/*/component.py"):
        text = path.read_text(encoding="utf-8")
        if any(f"base_image=images.{constant}," in text for constant in CONSTANTS[role]):
            found |= {module for node in ast.walk(ast.parse(text)) for module in _imported(node)}
    return sorted(found.union(NAMED_BY_TEXT[role]))


def _imported(node: ast.AST) -> list[str]:
    if not isinstance(node, ast.ImportFrom) or node.module in {None, "typing", "kfp", "components"}:
        return []
    names = [f"{node.module}.{name.name}" for name in node.names]
    return [name if _is_module(name) else str(node.module) for name in names]


def _is_module(name: str) -> bool:
    return (ROOT / f"{name.replace('.', '/')}.py").is_file() or (ROOT / name.replace(".", "/")).is_dir()


def _closure(modules: list[str]) -> set[str]:
    """Those of `components` among these, and all that they import, in whatever place."""
    graph = grimp.build_graph("components")
    ours = [module for module in modules if module.startswith("components")]
    return {*ours}.union(*(graph.find_upstream_modules(module) for module in ours))


def _folder(module: str) -> str:
    return ".".join(module.split(".")[:2])
