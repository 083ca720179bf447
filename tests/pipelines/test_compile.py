"""The compiled pipeline: the same bytes for the same file, and nothing in it that should not be."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.agreement.parties import load_parties
from components.errors import UsageError
from pipelines.compile import compile_round
from pipelines.federation import load_federation
from tests.conftest import SmallFederation
from tests.pipelines.conftest import COMMAND, FinishedRun

QUICKSTART = Path(__file__).parents[2] / "manifests/federations/quickstart.yaml"
SITES = ("gcp", "aws", "azure", "onprem")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("compiled") / "round.yaml"
    return compile_round(load_federation(QUICKSTART), target)


@pytest.fixture(scope="module")
def pipeline(spec: Path) -> dict[str, Any]:
    first: dict[str, Any] = next(yaml.safe_load_all(spec.read_text()))
    return first


def tasks(pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Tasks by the name that people read."""
    return {task["taskInfo"]["name"]: task for task in pipeline["root"]["dag"]["tasks"].values()}


def test_the_same_file_gives_the_same_bytes(spec: Path, tmp_path: Path) -> None:
    again = compile_round(load_federation(QUICKSTART), tmp_path / "round.yaml")
    assert again.read_bytes() == spec.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["round.yaml"], "drafts are removed"


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_same_bytes_whatever_the_order_of_hashes(spec: Path, tmp_path: Path, seed: str) -> None:
    command = subprocess.run(
        [*COMMAND, "compile", str(QUICKSTART), "--output", "specs"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (command.returncode, command.stdout) == (0, "specs/hospitals-round.yaml\n"), command.stderr
    assert (tmp_path / "specs/hospitals-round.yaml").read_bytes() == spec.read_bytes()


def test_kubeflow_parses_it(spec: Path) -> None:
    pipeline, platforms = yaml.safe_load_all(spec.read_text())
    parsed = json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())
    assert parsed.pipeline_info.name == "hospitals-round"
    assert parsed.pipeline_info.display_name == "Diagnosis coding across four hospitals: one round"
    platform = json_format.ParseDict(platforms, pipeline_spec_pb2.PlatformSpec())
    assert list(platform.platforms) == ["kubernetes"]


def test_steps_have_names_that_people_can_read(pipeline: dict[str, Any]) -> None:
    steps = ("ingest", "augment", "train", "seal", "adapt", "evaluate")
    central = {"open round", "roster", "aggregate", "open", "commit round", "report"}
    assert set(tasks(pipeline)) == central | {f"{step} · {site}" for step in steps for site in SITES}


def test_steps_are_wired_as_the_round_is_drawn(pipeline: dict[str, Any]) -> None:
    found = pipeline["root"]["dag"]["tasks"]
    title = {name: task["taskInfo"]["name"] for name, task in found.items()}
    after = {
        title[name]: {title[each] for each in task.get("dependentTasks", [])} for name, task in found.items()
    }
    assert after["open round"] == set()
    assert after["roster"] == {"open round", *(f"train · {site}" for site in SITES)}
    assert after["aggregate"] == {"open round", *(f"seal · {site}" for site in SITES)}
    assert after["open"] == {"open round", "aggregate"}
    assert after["commit round"] == {"open round", "open"}
    assert after["report"] == {"open round", "commit round", *(f"evaluate · {site}" for site in SITES)}
    for site in SITES:
        for step in ("ingest", "augment", "train", "seal", "adapt", "evaluate"):
            others = {each for each in after[f"{step} · {site}"] if " · " in each}
            assert {each.partition(" · ")[2] for each in others} <= {site}, (
                "a site's step waits for its own only"
            )


def test_nothing_is_answered_from_kubeflows_cache(pipeline: dict[str, Any]) -> None:
    assert [task.get("cachingOptions", "missing") for task in tasks(pipeline).values()] == [{}] * 30


def test_nothing_is_installed_when_it_runs(spec: Path, pipeline: dict[str, Any]) -> None:
    assert "pip install" not in spec.read_text()
    assert "ensurepip" not in spec.read_text()
    images = {each["container"]["image"] for each in pipeline["deploymentSpec"]["executors"].values()}
    assert len(images) == 3, "one image a role: site, aggregator, key holder"
    assert all(re.search(r":[^:/]+$", image) and not image.endswith(":latest") for image in images)


def test_hyperparameters_are_run_parameters_with_the_files_values(pipeline: dict[str, Any]) -> None:
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    assert {name: each["defaultValue"] for name, each in parameters.items()} == {
        "local_epochs": 1,
        "learning_rate": 0.03,
        "batch_size": 32,
        "device": "auto",
    }
    assert all(each["isOptional"] for each in parameters.values())
    handed_on = tasks(pipeline)["open round"]["inputs"]["parameters"]
    for name in ("local_epochs", "learning_rate", "batch_size"):
        assert handed_on[name] == {"componentInputParameter": name}


def test_no_path_of_a_machine_stands_in_it(spec: Path) -> None:
    text = spec.read_text()
    for folder in (Path.cwd(), Path.home(), Path(sys.prefix), spec.parent, QUICKSTART.parents[2]):
        assert str(folder) not in text or folder == Path("/")
    values = re.findall(r"constant: (.+)", text)
    assert len(values) > 100
    assert not [value for value in values if value.lstrip("'\"").startswith(("/", "~"))]


def test_no_key_stands_in_it(one_round: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = one_round.federation
    monkeypatch.setenv("CROSSCLOUD_HOME", str(federation.home))
    text = compile_round(load_federation(federation.path), tmp_path / "round.yaml").read_text()
    parties = load_parties("small/keys")
    raw = [key.public_bytes_raw() for key in parties.keys.values()]
    assert len(raw) == 5
    told = [*(base64.b64encode(each).decode() for each in raw), *(each.hex() for each in raw)]
    told += [parties.contexts["he"], "PRIVATE KEY", "PUBLIC KEY"]
    assert not [each for each in told if each in text]
    (used,) = (federation.home / "small/runs").glob("*/round.yaml")
    assert text == used.read_text(), "what a run has executed is what is compiled"


def test_another_learning_rate_is_another_spec(
    small_federation: Callable[..., SmallFederation], tmp_path: Path
) -> None:
    made = small_federation(rows=1)
    first = compile_round(load_federation(made.path), tmp_path / "first.yaml").read_text()
    made.document["training"]["learning_rate"] = 0.5
    second = compile_round(load_federation(made.save()), tmp_path / "second.yaml").read_text()
    changed = set(second.splitlines()) - set(first.splitlines())
    assert {line.strip() for line in changed} == {
        "#    learning_rate: float [Default: 0.5]", "defaultValue: 0.5"
    }  # fmt: skip


def test_a_target_that_cannot_be_written_is_told(
    small_federation: Callable[..., SmallFederation], tmp_path: Path
) -> None:
    (tmp_path / "specs").write_text("a file")
    federation = load_federation(small_federation(rows=1).path)
    with pytest.raises(UsageError, match=r"the spec cannot be written to .*specs/round\.yaml: "):
        compile_round(federation, tmp_path / "specs/round.yaml")
