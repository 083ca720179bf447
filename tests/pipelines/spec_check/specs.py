"""Compiled specs to be looked through, and to be broken."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from pipelines.spec_check.documents import parse_documents
from pipelines.spec_check.examination import examine
from pipelines.spec_check.findings import Finding

Documents: TypeAlias = list[dict[str, Any]]
Shipped: TypeAlias = Mapping[tuple[str, str], Path]
"""Compiled specs by name of the federation's file and method."""

Fault: TypeAlias = tuple[str, Callable[[Documents], Any], str]
"""What it is called, how it is put into a spec, and the rule that finds it."""


def read(path: Path) -> Documents:
    return list(yaml.load_all(path.read_bytes(), Loader=yaml.CSafeLoader))


def written(documents: Documents) -> bytes:
    """The documents as one stream; JSON is YAML, and quicker to write."""
    return "\n---\n".join(json.dumps(each) for each in documents).encode()


def examined(documents: Documents) -> list[Finding]:
    return examine(parse_documents(written(documents), name="round.yaml"), file="round.yaml")


def broken(documents: Documents, how: Callable[[Documents], object]) -> list[Finding]:
    """What is found in a copy after a change."""
    changed = copy.deepcopy(documents)
    how(changed)
    assert changed != documents, "the change must change something"
    return examined(changed)


def tasks(documents: Documents) -> dict[str, Any]:
    found: dict[str, Any] = documents[0]["root"]["dag"]["tasks"]
    return found


def given(documents: Documents, task: str) -> dict[str, Any]:
    """The parameters of a task."""
    found: dict[str, Any] = tasks(documents)[task]["inputs"]["parameters"]
    return found


def component(documents: Documents, name: str) -> dict[str, Any]:
    found: dict[str, Any] = documents[0]["components"][f"comp-{name}"]
    return found


def container(documents: Documents, name: str) -> dict[str, Any]:
    found: dict[str, Any] = documents[0]["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
    return found


def settings(documents: Documents) -> dict[str, Any]:
    """Kubernetes settings by executor."""
    found: dict[str, Any] = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return found


def only(documents: Documents, kept: set[str]) -> Documents:
    """The spec cut down to some tasks, which need no other."""
    cut = copy.deepcopy(documents)
    chosen = {name: task for name, task in tasks(cut).items() if name in kept}
    cut[0]["root"]["dag"]["tasks"] = chosen
    names = {task["componentRef"]["name"] for task in chosen.values()}
    cut[0]["components"] = {name: each for name, each in cut[0]["components"].items() if name in names}
    labels = {each["executorLabel"] for each in cut[0]["components"].values()}
    for executors in (cut[0]["deploymentSpec"]["executors"], settings(cut)):
        for label in set(executors) - labels:
            del executors[label]
    return cut


def constant(value: object) -> dict[str, Any]:
    """What gives a value to an input."""
    return {"runtimeValue": {"constant": value}}


def takes_artifact(documents: Documents, taker: str, task: str, *, kind: str = "system.Artifact") -> None:
    """Lets a task read a site's artifact, declared and awaited."""
    definition = {"artifactType": {"schemaTitle": kind, "schemaVersion": "0.0.1"}}
    component(documents, taker)["inputDefinitions"]["artifacts"] = {"given": definition}
    source = {"taskOutputArtifact": {"producerTask": task, "outputArtifactKey": "manifest"}}
    tasks(documents)[taker]["inputs"]["artifacts"] = {"given": source}
    tasks(documents)[taker].setdefault("dependentTasks", []).append(task)
