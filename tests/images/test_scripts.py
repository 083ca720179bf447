"""What builds, prunes and examines images, without an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.compile import compile_round
from pipelines.federation import load_federation
from tests.images.container_run import images_by_title
from tests.images.role_files import FOLDER, ROLES, ROOT, role_file, script

ENGINE = """#!/bin/sh
# Answers like an engine whose images are all {size} MB larger than their base.
case "$1 $2" in
  version*) exit {status} ;;
  "image inspect") case "$5" in crosscloud-*) echo {size}000000 ;; *) echo 0 ;; esac ;;
  build*) echo "$@" >>"$ASKED" ;;
  run*) exit {smoke} ;;
esac
"""


def build(folder: Path, *roles: str, size: int = 1, status: int = 0, smoke: int = 0, **settings: str) -> str:
    """Runs build.py with an engine that only answers; returns what it asked to be built and what it said."""
    docker = folder / "docker"
    docker.write_text(ENGINE.format(size=size, status=status, smoke=smoke))
    docker.chmod(0o700)
    asked = folder / "asked"
    asked.write_text("")
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, FOLDER / "build.py", *roles],
        env={**os.environ, "PATH": path, "ASKED": str(asked), **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (done.stderr == ""), done
    return asked.read_text() + done.stderr


def test_a_build_hands_the_chosen_base_stores_and_torch_on(tmp_path: Path) -> None:
    asked = build(tmp_path, BASE="plain:1", SITE_BASE="cuda:2", STORES="gcsfs", TORCH_INDEX="elsewhere")
    site, aggregator, key_holder, comparison = asked.splitlines()
    for line in (site, comparison):
        assert "BASE=cuda:2 --build-arg STORES --build-arg TORCH_INDEX" in line
    assert "BASE=plain:1 --build-arg STORES" in aggregator
    assert "TORCH_INDEX" not in aggregator + key_holder
    assert [f"--tag {name} " in line for name, line in zip(ROLES.values(), asked.splitlines(), strict=True)]


@pytest.mark.parametrize("role", ROLES)
def test_an_image_may_have_what_the_role_is_allowed_and_not_a_megabyte_more(
    role: str, tmp_path: Path
) -> None:
    limit = role_file(role)["limit_mb"]
    assert "more than" not in build(tmp_path, role, size=limit)
    assert f"{role}: {limit + 1} MB added to python:3.11-slim are more than {limit} MB" in build(
        tmp_path, role, size=limit + 1
    )


def test_a_site_s_image_with_cuda_has_a_limit_of_its_own(tmp_path: Path) -> None:
    assert "more than" not in build(tmp_path, "site", size=5000, SITE_LIMIT_MB="5000")
    assert "more than 260 MB" in build(tmp_path, "aggregator", size=5000, SITE_LIMIT_MB="5000")


def test_limits_are_those_that_are_promised() -> None:
    assert {role: role_file(role)["limit_mb"] for role in ROLES} == {
        "site": 1700,
        "aggregator": 260,
        "key-holder": 260,
        "comparison": 1400,
    }


def test_a_smoke_command_that_fails_fails_the_build(tmp_path: Path) -> None:
    assert "key-holder: the smoke command fails (exit status 1)" in build(tmp_path, "key-holder", smoke=1)


def test_no_engine_and_no_such_role_are_told_in_a_line(tmp_path: Path) -> None:
    assert build(tmp_path, status=1) == (
        "no Docker engine answers: start one, or set DOCKER_HOST to where one listens\n"
    )
    assert build(tmp_path, "notary") == (
        "notary: no such role; the roles are site, aggregator, key-holder, comparison\n"
    )


def test_what_no_line_pins_is_found_whatever_its_spelling() -> None:
    unpinned = script("install_packages").unpinned
    pins = ["# pinned", "PyYAML==6.0.3", "google_cloud.bigquery==3.47.0", "torch==2.13.0"]
    assert unpinned({"pyyaml": "6.0.3", "google-cloud-bigquery": "3.47.0", "torch": "2.13.0+cpu"}, pins) == []
    assert unpinned({"pyyaml": "6.0.2", "numpy": "2.4.6"}, pins) == ["numpy==2.4.6", "pyyaml==6.0.2"]


def test_commands_tests_and_headers_go_and_licences_stay(tmp_path: Path) -> None:
    packages = "lib/python3.11/site-packages"
    goes = [
        "bin/pip",
        "bin/activate",
        f"{packages}/numpy/tests/test_it.py",
        f"{packages}/pyarrow/include/arrow.h",
        f"{packages}/numpy/lib/libnpymath.a",
        f"{packages}/torch/bin/protoc",
        f"{packages}/torch/test/atest",
    ]
    stays = [
        "bin/python3",
        f"{packages}/numpy/testing/__init__.py",
        f"{packages}/torch/bin/torch_shm_manager",
        f"{packages}/torch/test.py",
        f"{packages}/torch.dist-info/licenses/json/tests/LICENSE",
    ]
    for name in goes + stays:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    installing = script("install_packages")
    for path in [*installing.superfluous(tmp_path)]:
        installing.remove(path)
    assert sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    ) == sorted(stays)


def smoke(folder: Path, **role: list[str]) -> tuple[int, list[str]]:
    """Runs the smoke command here; faults of this machine are among the lines it prints."""
    shutil.copy(FOLDER / "smoke.py", folder)
    told = {"role": "here", "modules": [], "absent": [], **role}
    (folder / "role.json").write_text(json.dumps(told))
    home = {name: str(folder) for name in ("CROSSCLOUD_HOME", "HOME", "TMPDIR")}
    done = subprocess.run(
        [sys.executable, folder / "smoke.py"],
        env={**os.environ, **home},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


def test_smoke_tells_what_is_missing_and_what_must_not_be_there(tmp_path: Path) -> None:
    code, faults = smoke(
        tmp_path, modules=["json", "no_such_module"], absent=["wave", "no.such", "yaml.nodes"]
    )
    assert code == 1
    assert (
        "here: no_such_module cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"
        in faults
    )
    assert "here: wave can be imported, and must not be here" in faults
    assert "here: yaml.nodes can be imported, and must not be here" in faults
    assert not [fault for fault in faults if "json" in fault or "no.such" in fault]


def test_smoke_refuses_code_that_its_user_could_change(tmp_path: Path) -> None:
    code, faults = smoke(tmp_path)
    assert code == 1
    assert f"here: {tmp_path} can be written by who runs it" in faults


def test_every_step_of_the_quick_start_runs_in_the_image_of_its_party(tmp_path: Path) -> None:
    spec = compile_round(
        load_federation(ROOT / "manifests/federations/quickstart.yaml"), tmp_path / "round.yaml"
    )
    named = images_by_title(spec.read_text())
    assert named["open"] == ROLES["key-holder"]
    assert {named[title] for title in ("open round", "roster", "aggregate", "commit round", "report")} == {
        ROLES["aggregator"]
    }
    at_sites = {title: image for title, image in named.items() if " · " in title}
    assert len(at_sites) == len(named) - 6 == 28
    assert set(at_sites.values()) == {ROLES["site"]}
