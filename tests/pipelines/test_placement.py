"""Where tasks run in Kubernetes, read from the compiled platform spec."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import images
from pipelines.compile import compile_round
from pipelines.federation import load_federation
from tests.conftest import SmallFederation

AT_SITES = ("ingest", "augment", "train", "seal", "release", "adapt", "evaluate")
OF_COORDINATOR = ("open round", "roster", "commit round", "report")


class Compiled:
    """What the two documents of a spec say of a task, by its title."""

    def __init__(self, spec: Path) -> None:
        pipeline, *platforms = yaml.safe_load_all(spec.read_text())
        executors = (
            platforms[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platforms else {}
        )
        self.kubernetes: dict[str, dict[str, Any]] = {}
        self.resources: dict[str, dict[str, Any]] = {}
        self.images: dict[str, str] = {}
        self.environment: dict[str, list[dict[str, str]]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        for task in pipeline["root"]["dag"]["tasks"].values():
            label = pipeline["components"][task["componentRef"]["name"]]["executorLabel"]
            title = task["taskInfo"]["name"]
            self.kubernetes[title] = executors.get(label, {})
            container = pipeline["deploymentSpec"]["executors"][label]["container"]
            self.resources[title] = container.get("resources", {})
            self.images[title] = container["image"]
            self.environment[title] = container["env"]
            job = task.get("inputs", {}).get("parameters", {}).get("job")
            self.jobs[title] = json.loads(job["runtimeValue"]["constant"] or "{}") if job else {}

    def secrets(self) -> dict[str, list[tuple[str, str]]]:
        """Name and mount path of every secret, by task."""
        return {
            title: [(each["secretName"], each["mountPath"]) for each in found["secretAsVolume"]]
            for title, found in self.kubernetes.items()
            if "secretAsVolume" in found
        }


@pytest.fixture(scope="module")
def compiled_once() -> list[Compiled]:
    """The spec that these tests read, once one of them has compiled it."""
    return []


@pytest.fixture
def compiled(
    small_federation: Callable[..., SmallFederation], tmp_path: Path, compiled_once: list[Compiled]
) -> Compiled:
    if compiled_once:
        return compiled_once[0]
    made = small_federation(
        rows=0,
        coordinator={"node_selector": {"party": "coordinator"}, "keys_secret": "of-the-coordinator"},
        aggregator={"node_selector": {"party": "aggregator"}, "keys_secret": "of-the-aggregator"},
        key_holder={"node_selector": {"party": "key-holder"}, "keys_secret": "of-the-key-holder"},
    )
    made.site("alpha")["placement"] = {
        "node_selector": {"cloud": "a", "zone": "a1"},
        "accelerator": {"type": "nvidia.com/gpu", "count": 2},
        "memory": "12Gi",
        "keys_secret": "of-alpha",
    }
    made.site("beta")["placement"] = {"keys_secret": "of-beta"}
    compiled_once.append(Compiled(compile_round(load_federation(made.save()), tmp_path / "round.yaml")))
    return compiled_once[0]


def test_a_secret_is_mounted_in_its_owners_tasks_and_in_no_other(compiled: Compiled) -> None:
    """Neither the aggregator nor the report signs anything; a site's secret is no other site's."""
    folder = "/var/run/secrets/crosscloud"
    expected = {
        f"{step} · {site}": [(f"of-{site}", f"{folder}/{site}")]
        for step in AT_SITES
        for site in ("alpha", "beta")
    }
    expected |= {title: [("of-the-coordinator", f"{folder}/coordinator")] for title in OF_COORDINATOR[:3]}
    expected |= {"open": [("of-the-key-holder", f"{folder}/key-holder")]}
    assert compiled.secrets() == expected


def test_tasks_go_to_the_nodes_of_their_party(compiled: Compiled) -> None:
    selected = {
        title: found["nodeSelector"]["labels"]
        for title, found in compiled.kubernetes.items()
        if "nodeSelector" in found
    }
    expected = {f"{step} · alpha": {"cloud": "a", "zone": "a1"} for step in AT_SITES}
    expected |= {title: {"party": "coordinator"} for title in OF_COORDINATOR}
    expected |= {"aggregate": {"party": "aggregator"}, "open": {"party": "key-holder"}}
    assert selected == expected


def test_a_gpu_is_given_to_those_who_compute_with_it(compiled: Compiled) -> None:
    accelerators = {
        title: (each["accelerator"].get("resourceType"), each["accelerator"].get("resourceCount"))
        for title, each in compiled.resources.items()
        if "accelerator" in each
    }
    assert accelerators == dict.fromkeys(("augment · alpha", "train · alpha"), ("nvidia.com/gpu", "2"))


def test_a_memory_limit_is_set_on_all_tasks_of_its_site(compiled: Compiled) -> None:
    limited = {
        title for title, each in compiled.resources.items() if each.get("resourceMemoryLimit") == "12Gi"
    }
    assert limited == {f"{step} · alpha" for step in AT_SITES}
    assert {title for title, each in compiled.resources.items() if each} == limited


def test_without_placement_kubernetes_is_asked_for_no_root_and_nothing_else(
    small_federation: Callable[..., SmallFederation], tmp_path: Path
) -> None:
    made = small_federation(rows=0)
    found = Compiled(compile_round(load_federation(made.path), tmp_path / "round.yaml"))
    context = {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
    assert {title: each.keys() for title, each in found.kubernetes.items()} == {
        title: {"securityContext", "fieldPathAsEnv"} for title in found.kubernetes
    }
    run_id = [{"name": "KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}]
    assert all(each["fieldPathAsEnv"] == run_id for each in found.kubernetes.values())
    logged = [
        {"name": "CROSSCLOUD_LOG", "value": "json"},
        {"name": "CROSSCLOUD_FEDERATION", "value": "small"},
    ]
    assert all(each == logged for each in found.environment.values())
    assert all(each["securityContext"] == context for each in found.kubernetes.values())
    assert not any(found.resources.values())


@pytest.fixture(scope="module")
def kept() -> list[Compiled]:
    """The spec with Jobs, once a test has compiled it."""
    return []


class TestInClustersOfTheSites:
    """alpha by a dispatcher, beta by its agent, gamma on nodes of the pipeline's own cluster."""

    @pytest.fixture
    def compiled(
        self, small_federation: Callable[..., SmallFederation], tmp_path: Path, kept: list[Compiled]
    ) -> Compiled:
        if kept:
            return kept[0]
        pinned = "sha256:" + "5e" * 32
        made = small_federation(
            rows=0,
            coordinator={"node_selector": {"party": "coordinator"}, "keys_secret": "of-the-coordinator"},
            images={"registry": "registry.example:5000/team", "site": pinned},
        )
        made.site("alpha")["placement"] = {
            "kind": "kubernetes-job",
            "kubeconfig_secret": "opens-alpha",
            "namespace": "research",
            "accelerator": {"count": 2},
        }
        made.site("beta")["placement"] = {"kind": "kubernetes-job", "door": "agent"}
        made.site("gamma")["placement"] = {
            "node_selector": {"party": "gamma"},
            "tolerations": [
                {"key": "nvidia.com/gpu"},
                {"key": "party", "operator": "Equal", "value": "gamma", "effect": "NoSchedule"},
            ],
            "image_pull_secrets": ["registry"],
            "keys_secret": "of-gamma",
        }
        kept.append(Compiled(compile_round(load_federation(made.save()), tmp_path / "round.yaml")))
        return kept[0]

    def test_a_dispatcher_is_the_coordinators(self, compiled: Compiled) -> None:
        for step in AT_SITES:
            for site in ("alpha", "beta"):
                found = compiled.kubernetes[f"{step} · {site}"]
                assert found["nodeSelector"] == {"labels": {"party": "coordinator"}}
                assert (
                    compiled.images[f"{step} · {site}"] == f"registry.example:5000/team/{images.AGGREGATOR}"
                )
                assert compiled.resources[f"{step} · {site}"] == {}

    def test_it_holds_the_coordinators_key_and_what_opens_its_own_site(self, compiled: Compiled) -> None:
        mounted = compiled.secrets()
        coordinator = ("of-the-coordinator", "/var/run/secrets/crosscloud/coordinator")
        opens = ("opens-alpha", "/var/run/secrets/crosscloud-clusters/alpha")
        for step in AT_SITES:
            assert mounted[f"{step} · alpha"] == [coordinator, opens]
            assert mounted[f"{step} · beta"] == [coordinator]
            assert mounted[f"{step} · gamma"] == [("of-gamma", "/var/run/secrets/crosscloud/gamma")]

    def test_its_task_says_who_makes_the_job(self, compiled: Compiled) -> None:
        accelerated = {"accelerator": "nvidia.com/gpu", "accelerators": 2}
        for step in AT_SITES:
            assert compiled.jobs[f"{step} · alpha"] == {
                "door": "dispatcher",
                "namespace": "research",
                **accelerated,
            }
            assert compiled.jobs[f"{step} · beta"] == {
                "door": "agent",
                "namespace": "crosscloud",
                "accelerator": "",
                "accelerators": 0,
            }
            assert compiled.jobs[f"{step} · gamma"] == {}

    def test_nodes_of_a_site_are_tolerated_and_its_registry_opened(self, compiled: Compiled) -> None:
        for step in AT_SITES:
            found = compiled.kubernetes[f"{step} · gamma"]
            assert found["tolerations"] == [
                {"key": "nvidia.com/gpu", "operator": "Exists"},
                {"key": "party", "operator": "Equal", "value": "gamma", "effect": "NoSchedule"},
            ]
            assert [each["secretName"] for each in found["imagePullSecret"]] == ["registry"]

    def test_images_come_from_the_registry_by_digest_where_one_is_given(self, compiled: Compiled) -> None:
        site = f"registry.example:5000/team/crosscloud-python-site@sha256:{'5e' * 32}"
        assert {compiled.images[f"{step} · gamma"] for step in AT_SITES} == {site}
        assert compiled.images["open"] == f"registry.example:5000/team/{images.KEY_HOLDER}"
