"""The compiled spec: one input, one output, and nothing in it that belongs to a machine or a party."""

from __future__ import annotations

import base64
import json
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
from kfp import kubernetes
from kfp.pipeline_spec import pipeline_spec_pb2

from components.agreement.charter import Charter
from components.agreement.charter_book import charter_in_force
from components.agreement.key_certificate import certified_keys
from components.errors import UsageError
from pipelines.compile import compile_round
from pipelines.federation import Federation, load_federation
from tests.conftest import SmallFederation
from tests.pipelines.conftest import FinishedRun

QUICKSTART = Path("manifests/federations/quickstart.yaml")
SITES = ("gcp", "aws", "azure", "onprem")
PER_SITE = ("ingest", "augment", "train", "seal", "release", "adapt", "evaluate")
ONCE = ("open round", "roster", "aggregate", "open", "commit round", "report")


@pytest.fixture(scope="module")
def quickstart() -> Federation:
    return load_federation(QUICKSTART)


@pytest.fixture(scope="module")
def spec_path(quickstart: Federation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_round(quickstart, tmp_path_factory.mktemp("spec") / "round.yaml")


@pytest.fixture(scope="module")
def documents(spec_path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(spec_path.read_text()))


def tasks(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Tasks by display name."""
    found = documents[0]["root"]["dag"]["tasks"]
    return {task["taskInfo"]["name"]: task for task in found.values()}


def test_two_processes_with_other_hash_seeds_compile_the_same_bytes(spec_path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "compile", str(QUICKSTART)]
    processes = {
        tmp_path / seed: subprocess.Popen(
            [*command, "--output", str(tmp_path / seed)],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    }
    for target, process in processes.items():
        assert process.wait(60) == 0
        assert (target / "hospitals-round.yaml").read_bytes() == spec_path.read_bytes()


def test_every_step_of_every_site_has_a_name_of_its_own(documents: list[dict[str, Any]]) -> None:
    expected = {*ONCE, *(f"{step} · {site}" for step in PER_SITE for site in SITES)}
    assert set(tasks(documents)) == expected


@pytest.mark.parametrize("method", ["fedavg", "he-fl"])
def test_masks_are_released_under_sealed_only(
    quickstart: Federation, documents: list[dict[str, Any]], tmp_path: Path, method: str
) -> None:
    spec = compile_round(quickstart.with_method(method), tmp_path / "round.yaml")
    others = tasks(list(yaml.safe_load_all(spec.read_text())))
    released = {name for name in tasks(documents) if name.startswith("release · ")}
    assert released == {f"release · {site}" for site in SITES}
    assert set(tasks(documents)) - set(others) == released
    assert set(others["open"].get("dependentTasks", [])) == {"aggregate", "open-round"}


def test_under_smc_all_share_before_any_seals_and_unmasking_is_in_the_place_of_release(
    quickstart: Federation, documents: list[dict[str, Any]], tmp_path: Path
) -> None:
    spec = compile_round(quickstart.with_method("smc-fl"), tmp_path / "round.yaml")
    compiled = list(yaml.safe_load_all(spec.read_text()))
    ours, sealed = tasks(compiled), tasks(documents)
    names = {key: task["taskInfo"]["name"] for key, task in compiled[0]["root"]["dag"]["tasks"].items()}
    after = {name: {names[each] for each in task.get("dependentTasks", [])} for name, task in ours.items()}
    assert set(ours) - set(sealed) == {f"{step} · {site}" for step in ("share", "unmask") for site in SITES}
    assert set(sealed) - set(ours) == {f"release · {site}" for site in SITES}
    shares = {f"share · {site}" for site in SITES}
    for site in SITES:
        assert after[f"share · {site}"] == {"open round", "roster", f"train · {site}"}
        assert after[f"seal · {site}"] == {"open round", "roster", f"train · {site}", *shares}
        assert after[f"unmask · {site}"] == {"open round", "aggregate", f"seal · {site}"}
    assert after["open"] == {"open round", "aggregate", *(f"unmask · {site}" for site in SITES)}


def test_every_field_is_one_that_kubeflow_knows(documents: list[dict[str, Any]]) -> None:
    spec, platform = documents
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert len(parsed.root.dag.tasks) == len(ONCE) + len(PER_SITE) * len(SITES)
    deployment = json_format.ParseDict(spec["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
    assert len(deployment.executors) == len(spec["deploymentSpec"]["executors"])
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())


def test_no_step_is_answered_from_kubeflows_cache(documents: list[dict[str, Any]]) -> None:
    assert [
        name for name, task in tasks(documents).items() if task.get("cachingOptions", {}).get("enableCache")
    ] == []


def test_nothing_is_installed_when_a_step_runs(spec_path: Path) -> None:
    text = spec_path.read_text()
    assert "executor_main" in text
    assert "pip install" not in text
    assert "pip3" not in text


def test_images_are_ours_by_role(documents: list[dict[str, Any]]) -> None:
    spec = documents[0]
    images = {
        name: spec["deploymentSpec"]["executors"][
            spec["components"][task["componentRef"]["name"]]["executorLabel"]
        ]["container"]["image"].split(":")[0]
        for name, task in tasks(documents).items()
    }
    assert images["open"] == "crosscloud-python-key-holder"
    assert {images[name] for name in ONCE if name != "open"} == {"crosscloud-python-aggregator"}
    assert {images[f"{step} · aws"] for step in PER_SITE} == {"crosscloud-python-site"}


def test_a_spec_holds_no_key_and_no_path_of_a_machine(spec_path: Path) -> None:
    text = spec_path.read_text()
    for word in (
        "PRIVATE KEY",
        str(Path.cwd()),
        str(Path.home()),
        os.environ.get("CROSSCLOUD_HOME", "no home set"),
    ):
        assert word not in text
    assert (
        re.findall(r"(?:state|store|exchange|keys)_uri:\s*\n\s*runtimeValue:\s*\n\s*constant: /", text) == []
    )


def test_hyperparameters_are_run_parameters_with_the_files_defaults(
    documents: list[dict[str, Any]], quickstart: Federation
) -> None:
    parameters = documents[0]["root"]["inputDefinitions"]["parameters"]
    assert {name: each["defaultValue"] for name, each in parameters.items()} == {
        "local_epochs": quickstart.training.local_epochs,
        "learning_rate": quickstart.training.learning_rate,
        "batch_size": quickstart.training.batch_size,
        "device": quickstart.training.device,
    }


def test_only_references_and_reasons_reach_the_aggregator(documents: list[dict[str, Any]]) -> None:
    aggregate = tasks(documents)["aggregate"]["inputs"]
    assert "artifacts" not in aggregate
    handed = json.dumps(aggregate)
    assert set(re.findall(r"outputParameterKey\": \"(\w+)", handed)) == {"sealed", "reason", "ticket"}


def test_only_references_reach_the_key_holder(documents: list[dict[str, Any]]) -> None:
    opening = tasks(documents)["open"]["inputs"]
    assert "artifacts" not in opening
    handed = json.dumps(opening)
    assert set(re.findall(r"outputParameterKey\": \"(\w+)", handed)) == {"sealed_sum", "released", "ticket"}
    assert opening["parameters"]["store_uri"]["runtimeValue"]["constant"] == "hospitals/key-holder"


class TestPlacement:
    @pytest.fixture
    def platform(self, documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Kubernetes settings by display name of the task."""
        spec, platform = documents
        executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        return {
            name: executors.get(spec["components"][task["componentRef"]["name"]]["executorLabel"], {})
            for name, task in tasks(documents).items()
        }

    @pytest.mark.parametrize("site", SITES)
    def test_a_sites_steps_run_on_its_nodes(self, platform: dict[str, dict[str, Any]], site: str) -> None:
        for step in PER_SITE:
            assert platform[f"{step} · {site}"]["nodeSelector"]["labels"] == {"crosscloud/party": site}

    def test_private_keys_are_mounted_for_their_owner_only(self, platform: dict[str, dict[str, Any]]) -> None:
        mounted = {
            name: [(each["secretName"], each["mountPath"]) for each in settings.get("secretAsVolume", [])]
            for name, settings in platform.items()
        }
        root = "/var/run/secrets/crosscloud"
        for site in SITES:
            for step in PER_SITE:
                assert mounted[f"{step} · {site}"] == [(f"crosscloud-{site}", f"{root}/{site}")]
        coordinator = [("crosscloud-coordinator", f"{root}/coordinator")]
        assert mounted["open"] == [("crosscloud-key-holder", f"{root}/key-holder")]
        assert mounted["aggregate"] == mounted["report"] == []
        assert mounted["open round"] == mounted["roster"] == mounted["commit round"] == coordinator

    def test_only_steps_that_compute_get_the_accelerator(self, documents: list[dict[str, Any]]) -> None:
        spec = documents[0]
        accelerated = {
            name
            for name, task in tasks(documents).items()
            if "accelerator"
            in spec["deploymentSpec"]["executors"][
                spec["components"][task["componentRef"]["name"]]["executorLabel"]
            ]["container"].get("resources", {})
        }
        assert accelerated == {f"{step} · {site}" for step in ("augment", "train") for site in SITES}

    def test_settings_are_those_of_the_kubernetes_executor(self, documents: list[dict[str, Any]]) -> None:
        executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for settings in executors.values():
            json_format.ParseDict(settings, kubernetes.common.pb.KubernetesExecutorConfig())


def test_an_unwritable_target_is_one_line_and_leaves_nothing(quickstart: Federation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"^the spec cannot be written to .*file/round\.yaml: File exists$"):
        compile_round(quickstart, tmp_path / "file" / "round.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_other_federations_compile(small_federation: Callable[..., Any], tmp_path: Path) -> None:
    made = small_federation(rows=0, protection="none", head={"hidden_units": 8})
    compiled = compile_round(load_federation(made.path), tmp_path / "small.yaml")
    document = next(yaml.safe_load_all(compiled.read_text()))
    assert document["pipelineInfo"]["name"] == "small-round"


def test_steps_are_wired_as_the_round_is_drawn(documents: list[dict[str, Any]]) -> None:
    found = documents[0]["root"]["dag"]["tasks"]
    title = {name: task["taskInfo"]["name"] for name, task in found.items()}
    after = {
        title[name]: {title[each] for each in task.get("dependentTasks", [])} for name, task in found.items()
    }
    assert after["open round"] == set()
    assert after["roster"] == {"open round", *(f"train · {site}" for site in SITES)}
    assert after["aggregate"] == {"open round", *(f"seal · {site}" for site in SITES)}
    assert after["open"] == {"open round", "aggregate", *(f"release · {site}" for site in SITES)}
    assert after["commit round"] == {"open round", "open"}
    assert after["report"] == {"open round", "commit round", *(f"evaluate · {site}" for site in SITES)}
    for site in SITES:
        assert after[f"seal · {site}"] == {"open round", "roster", f"train · {site}"}
        assert after[f"release · {site}"] == {"open round", "aggregate", f"seal · {site}"}
        for step in PER_SITE:
            others = {each for each in after[f"{step} · {site}"] if " · " in each}
            assert {each.partition(" · ")[2] for each in others} <= {site}, (
                "a site's step waits for its own only"
            )


def test_no_key_and_no_charter_stands_in_it(
    one_round: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = one_round.federation
    monkeypatch.setenv("CROSSCLOUD_HOME", str(federation.home))
    text = compile_round(load_federation(federation.path), tmp_path / "round.yaml").read_text()
    charter = charter_in_force("small/keys")
    (certified,) = certified_keys("small/keys", charter, "sealed")
    raw = public_keys(charter)
    assert len(set(raw)) == 3 + 3 + 2
    told = [*(base64.b64encode(each).decode() for each in raw), *(each.hex() for each in raw)]
    told += [charter.digest, charter.genesis, certified.digest, certified.certificate.context]
    told += ["PRIVATE KEY", "PUBLIC KEY"]
    assert not [each for each in told if each in text]
    (used,) = (federation.home / "small/runs").glob("*/round.yaml")
    assert text == used.read_text(), "what a run has executed is what is compiled"


def public_keys(charter: Charter) -> list[bytes]:
    texts = [charter.coordinator, charter.key_holder]
    texts += [key for keys in charter.sites.values() for key in (keys.signing, keys.agreement)]
    return [base64.b64decode(text) for text in texts]


def test_a_step_is_told_where_things_are_and_not_what_was_agreed(documents: list[dict[str, Any]]) -> None:
    """Sites, bounds and quorum are the charter's: the coordinator's pipeline does not hand them out."""
    handed = {
        task["taskInfo"]["name"].partition(" · ")[0]: set(task["inputs"]["parameters"])
        for task in tasks(documents).values()
    }
    place = {"site", "ticket", "store_uri", "exchange_uri", "keys_uri", "deadline_s", "job", "reason"}
    assert handed["seal"] == place | {"roster", "commitment"}
    assert handed["release"] == place | {"sealed_sum"}
    assert handed["train"] == place | {"features", "device"}
    agreed = {"min_sites", "min_sum_sites", "colluding_sites", "clipping_norm", "max_examples", "charter"}
    assert not [name for name, parameters in handed.items() if parameters & agreed]
    assert [name for name, parameters in handed.items() if "protection" in parameters] == ["open round"]


def test_another_learning_rate_is_another_spec(
    small_federation: Callable[..., SmallFederation], tmp_path: Path
) -> None:
    made = small_federation(rows=0)
    first = compile_round(load_federation(made.path), tmp_path / "first.yaml").read_text()
    made.document["training"]["learning_rate"] = 0.5
    second = compile_round(load_federation(made.save()), tmp_path / "second.yaml").read_text()
    changed = set(second.splitlines()) - set(first.splitlines())
    assert {line.strip() for line in changed} == {
        "#    learning_rate: float [Default: 0.5]", "defaultValue: 0.5"
    }  # fmt: skip
