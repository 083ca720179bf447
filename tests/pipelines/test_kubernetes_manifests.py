"""Pipelines as objects of the cluster: the same spec, under a name that says what is in it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import UsageError
from pipelines.compile import compile_round
from pipelines.federation import Federation, load_federation
from pipelines.kubernetes_manifests import compile_objects, version_name

QUICKSTART = Path("manifests/federations/quickstart.yaml")


@pytest.fixture(scope="module")
def quickstart() -> Federation:
    return load_federation(QUICKSTART)


@pytest.fixture(scope="module")
def folder(quickstart: Federation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the spec and the objects of the quick start."""
    made = tmp_path_factory.mktemp("objects")
    spec = compile_round(quickstart, made / "hospitals-round.yaml")
    compile_objects(quickstart, spec, made / "hospitals-round-objects.yaml")
    return made


@pytest.fixture(scope="module")
def objects(folder: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((folder / "hospitals-round-objects.yaml").read_text()))


def test_the_version_holds_the_compiled_spec_and_nothing_else(
    folder: Path, objects: list[dict[str, Any]]
) -> None:
    pipeline, version = objects
    spec, platform = yaml.safe_load_all((folder / "hospitals-round.yaml").read_text())
    assert version["spec"]["pipelineSpec"] == spec
    assert version["spec"]["platformSpec"] == platform
    assert [each["kind"] for each in objects] == ["Pipeline", "PipelineVersion"]
    assert {each["apiVersion"] for each in objects} == {"pipelines.kubeflow.org/v2beta1"}
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == spec["pipelineInfo"]["name"]
    assert pipeline["spec"]["displayName"] == spec["pipelineInfo"]["displayName"]
    assert all(set(each["metadata"]) == {"name"} for each in objects)


def test_the_name_of_a_version_is_the_digest_of_its_spec(folder: Path, objects: list[dict[str, Any]]) -> None:
    name = objects[1]["metadata"]["name"]
    content = hashlib.sha256((folder / "hospitals-round.yaml").read_bytes()).hexdigest()
    assert name == objects[1]["spec"]["displayName"] == f"hospitals-round-{content[:12]}"
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name)


def test_the_longest_name_of_a_federation_still_makes_a_name_of_an_object(
    quickstart: Federation, folder: Path
) -> None:
    longest = quickstart.model_copy(update={"federation": "f" * 40})
    assert len(version_name(longest, folder / "hospitals-round.yaml")) <= 63


@pytest.mark.parametrize("field", ["training", "title", "exchange_uri"])
def test_other_content_has_another_name(
    quickstart: Federation, folder: Path, tmp_path: Path, field: str
) -> None:
    changes = {
        "training": quickstart.training.model_copy(update={"local_epochs": 2}),
        "title": "Other words",
        "exchange_uri": "elsewhere/exchange",
    }
    changed = quickstart.model_copy(update={field: changes[field]})
    spec = compile_round(changed, tmp_path / "round.yaml")
    assert version_name(changed, spec) != version_name(quickstart, folder / "hospitals-round.yaml")


def test_what_is_not_in_the_spec_does_not_make_a_version(
    quickstart: Federation, folder: Path, tmp_path: Path
) -> None:
    limits = quickstart.limits.model_copy(update={"key_rotation_rounds": 7})
    changed = quickstart.model_copy(update={"limits": limits})
    spec = compile_round(changed, tmp_path / "round.yaml")
    assert version_name(changed, spec) == version_name(quickstart, folder / "hospitals-round.yaml")


def test_two_processes_with_other_hash_seeds_write_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "compile", str(QUICKSTART)]
    processes = {
        tmp_path / seed: subprocess.Popen(
            [*command, "--kubernetes-manifests", "--output", str(tmp_path / seed)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    }
    for target, process in processes.items():
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert [Path(line).name for line in printed.splitlines()] == [
            "hospitals-round.yaml",
            "hospitals-round-objects.yaml",
        ]
        for name in ("hospitals-round.yaml", "hospitals-round-objects.yaml"):
            assert (target / name).read_bytes() == (folder / name).read_bytes()
        assert len(list(target.iterdir())) == 2


def test_a_folder_that_is_not_there_is_told_in_one_line(
    quickstart: Federation, folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "missing" / "objects.yaml"
    with pytest.raises(UsageError, match=r"^the objects cannot be written to .*: No such file or directory$"):
        compile_objects(quickstart, folder / "hospitals-round.yaml", target)
