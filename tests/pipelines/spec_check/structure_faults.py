"""Faults that a spec has whoever runs it: names, wires, types and fields."""

from __future__ import annotations

import copy
from typing import Any

from components import images
from tests.pipelines.spec_check.specs import (
    Fault,
    component,
    constant,
    container,
    given,
    settings,
    takes_artifact,
    tasks,
)


def from_task(task: str, key: str) -> dict[str, Any]:
    return {"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}}


REFERENCES: list[Fault] = [
    ("component gone", lambda d: d[0]["components"].pop("comp-train"), "component-missing"),
    (
        "componentRef dangling",
        lambda d: tasks(d)["train"]["componentRef"].update(name="x"),
        "component-missing",
    ),
    ("componentRef missing", lambda d: tasks(d)["train"].pop("componentRef"), "component-missing"),
    ("executor gone", lambda d: d[0]["deploymentSpec"]["executors"].pop("exec-train"), "executor-missing"),
    ("executorLabel dangling", lambda d: component(d, "train").update(executorLabel="x"), "executor-missing"),
    ("no implementation", lambda d: component(d, "train").pop("executorLabel"), "component-empty"),
    ("no tasks", lambda d: d[0]["root"]["dag"].pop("tasks"), "root-empty"),
    ("no root", lambda d: d[0].pop("root"), "root-empty"),
    ("awaits nobody", lambda d: tasks(d)["train"]["dependentTasks"].append("nope"), "task-missing"),
    ("awaits itself", lambda d: tasks(d)["train"]["dependentTasks"].append("train"), "task-cycle"),
    ("cycle", lambda d: tasks(d)["open-round"].update(dependentTasks=["aggregate"]), "task-cycle"),
    ("no title", lambda d: tasks(d)["train"].pop("taskInfo"), "task-unnamed"),
    (
        "component unused",
        lambda d: d[0]["components"].update({"comp-x": copy.deepcopy(component(d, "train"))}),
        "component-unused",
    ),
    (
        "executor unused",
        lambda d: d[0]["deploymentSpec"]["executors"].update({"x": {"container": {"image": images.SITE}}}),
        "executor-unused",
    ),
    (
        "settings of no executor",
        lambda d: settings(d).update({"exec-nope": settings(d).pop("exec-train")}),
        "platform-executor-missing",
    ),
    (
        "settings in a component",
        lambda d: component(d, "train").update(singlePlatformSpecs=[{"platform": "kubernetes"}]),
        "platform-embedded",
    ),
]

WIRES: list[Fault] = [
    (
        "producer dangling",
        lambda d: given(d, "train").update(features=from_task("x", "features")),
        "producer-missing",
    ),
    ("not awaited", lambda d: tasks(d)["train"]["dependentTasks"].remove("augment"), "producer-not-awaited"),
    (
        "no such output",
        lambda d: given(d, "train").update(features=from_task("augment", "x")),
        "output-missing",
    ),
    (
        "artifact as parameter",
        lambda d: given(d, "train").update(features=from_task("augment", "manifest")),
        "input-kind",
    ),
    (
        "parameter among artifacts",
        lambda d: tasks(d)["train"]["inputs"].update(
            artifacts={"features": {"componentInputArtifact": "features"}}
        ),
        "input-kind",
    ),
    (
        "run parameter gone",
        lambda d: d[0]["root"]["inputDefinitions"]["parameters"].pop("device"),
        "input-missing",
    ),
    ("required input gone", lambda d: given(d, "train").pop("site"), "input-required"),
    ("unknown input", lambda d: given(d, "train").update(extra=constant("x")), "input-unknown"),
    ("input without source", lambda d: given(d, "train").update(site={}), "input-source"),
    ("empty constant", lambda d: given(d, "train").update(site={"runtimeValue": {}}), "input-source"),
    ("constant of a type", lambda d: given(d, "train").update(deadline_s=constant("soon")), "input-type"),
    ("half a second", lambda d: given(d, "train").update(deadline_s=constant(0.5)), "input-type"),
    (
        "default of a type",
        lambda d: d[0]["root"]["inputDefinitions"]["parameters"]["batch_size"].update(defaultValue="many"),
        "input-type",
    ),
    (
        "run parameter of a type",
        lambda d: given(d, "train").update(device={"componentInputParameter": "learning_rate"}),
        "input-type",
    ),
    (
        "output of a type",
        lambda d: component(d, "augment")["outputDefinitions"]["parameters"]["features"].update(
            parameterType="STRUCT"
        ),
        "input-type",
    ),
    (
        "artifact of a type",
        lambda d: takes_artifact(d, "train", "augment", kind="system.Metrics"),
        "input-type",
    ),
    (
        "placeholder dangling",
        lambda d: given(d, "roster")["reasons"]["runtimeValue"]["constant"].update(
            west="{{$.inputs.parameters['pipelinechannel--x']}}"
        ),
        "placeholder-missing",
    ),
    (
        "channel gone",
        lambda d: given(d, "roster").pop("pipelinechannel--train-reason"),
        "placeholder-missing",
    ),
    (
        "condition on nothing",
        lambda d: tasks(d)["train"].update(
            triggerPolicy={"condition": "inputs.parameter_values['pipelinechannel--x'] == 'y'"}
        ),
        "placeholder-missing",
    ),
    (
        "argument names no input",
        lambda d: container(d, "train")["args"].append("{{$.inputs.parameters['nope']}}"),
        "placeholder-missing",
    ),
    (
        "output of the root unbound",
        lambda d: d[0]["root"].update(outputDefinitions={"parameters": {"out": {"parameterType": "STRING"}}}),
        "output-unbound",
    ),
    (
        "loop over nothing",
        lambda d: tasks(d)["train"].update(
            parameterIterator={"itemInput": "site", "items": {"inputParameter": "nope"}}
        ),
        "iterator",
    ),
    (
        "loop over no list",
        lambda d: tasks(d)["train"].update(parameterIterator={"itemInput": "site", "items": {"raw": '"a"'}}),
        "iterator",
    ),
    (
        "loop into nothing",
        lambda d: tasks(d)["train"].update(parameterIterator={"itemInput": "x", "items": {"raw": "[]"}}),
        "iterator",
    ),
    (
        "loop over sites",
        lambda d: tasks(d)["train"].update(parameterIterator={"itemInput": "site", "items": {"raw": "[]"}}),
        "loop-used",
    ),
]

FIELDS: list[Fault] = [
    ("field of a task", lambda d: tasks(d)["train"].update(foo=1), "unknown-field"),
    ("field of a component", lambda d: component(d, "train").update(foo=1), "unknown-field"),
    ("field of the pipeline", lambda d: d[0].update(foo=1), "unknown-field"),
    ("field of a container", lambda d: container(d, "train").update(foo=1), "unknown-field"),
    ("field of settings", lambda d: settings(d)["exec-train"].update(foo=1), "unknown-field"),
    (
        "type that is none",
        lambda d: component(d, "train")["inputDefinitions"]["parameters"]["site"].update(
            parameterType="TEXT"
        ),
        "field-value",
    ),
    ("a word for a mapping", lambda d: container(d, "train").update(env="A=b"), "field-value"),
]
