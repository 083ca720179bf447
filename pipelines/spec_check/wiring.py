"""What tasks are given, and what graphs pass on: sources that exist, of the kind and type asked for."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipelines.spec_check.findings import Finding, Path
from pipelines.spec_check.references import listed
from pipelines.spec_check.spec import Graph, Message, Spec
from pipelines.spec_check.types import fits_artifact, fits_constant, parameter_type, texts, told_value

Kind: TypeAlias = Literal["parameters", "artifacts"]

CHANNEL = "pipelinechannel--"
"""What kfp calls an input that is there for a placeholder only."""
_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]")
_CONDITION = re.compile(r"inputs\.parameter_values\['([^']+)'\]")
_GIVEN_BY_KUBEFLOW = frozenset({"TASK_FINAL_STATUS", "TASK_CONFIG"})
_OTHER: dict[Kind, Kind] = {"parameters": "artifacts", "artifacts": "parameters"}


def check_wiring(spec: Spec) -> Iterator[Finding]:
    """Of every task whose component is there, and of every output of a graph."""
    for graph in spec.graphs():
        yield from _defaults(spec, graph)
        for name, task in sorted(graph.tasks.items()):
            component = spec.component(task)
            if component is not None:
                yield from _Wires(spec=spec, graph=graph, name=name, task=task, component=component).check()


def _defaults(spec: Spec, graph: Graph) -> Iterator[Finding]:
    for name, definition in sorted(graph.component.input_definitions.parameters.items()):
        wanted = parameter_type(definition)
        if not fits_constant(definition.default_value, wanted):
            path = (*graph.path, "inputDefinitions", "parameters", name, "defaultValue")
            text = f"{name!r} is {wanted}, its default is {told_value(definition.default_value)}: correct one"
            yield spec.finding("input-type", path, text)


@dataclass(frozen=True, kw_only=True)
class _Wires:
    """The inputs of one task."""

    spec: Spec
    graph: Graph
    name: str
    task: Message
    component: Message

    def check(self) -> Iterator[Finding]:
        for name, source in sorted(self.task.inputs.parameters.items()):
            yield from self._parameter(name, source)
        for name, source in sorted(self.task.inputs.artifacts.items()):
            yield from self._artifact(name, source)
        yield from self._not_given()
        for name in dict.fromkeys(_CONDITION.findall(self.task.trigger_policy.condition)):
            yield from self._placeholder(name, self._path("triggerPolicy", "condition"))

    def _path(self, *rest: str | int) -> Path:
        return self.graph.task_path(self.name, *rest)

    def _at(self, kind: Kind, name: str) -> Path:
        return self._path("inputs", kind, name)

    def _parameter(self, name: str, source: Message) -> Iterator[Finding]:
        at = self._at("parameters", name)
        definitions = self.component.input_definitions.parameters
        wanted = parameter_type(definitions[name]) if name in definitions else ""
        yield from self._known("parameters", name)
        given = None
        match source.WhichOneof("kind"):
            case "task_output_parameter":
                output = source.task_output_parameter
                yield from self._awaited(output.producer_task, at)
                given = yield from find_output(
                    self.spec,
                    self.graph,
                    "parameters",
                    (output.producer_task, output.output_parameter_key),
                    at,
                )
            case "task_final_status":
                yield from self._awaited(source.task_final_status.producer_task, at)
            case "component_input_parameter":
                given = yield from self._handed_down("parameters", source.component_input_parameter, at)
            case "runtime_value":
                yield from self._constant(name, source.runtime_value.constant, wanted, at)
            case _:
                yield self.spec.finding("input-source", at, f"{name!r} has no source: give it a value")
        found = parameter_type(given) if given is not None else ""
        if found and wanted and found != wanted and not source.parameter_expression_selector:
            yield self.spec.finding(
                "input-type", at, f"{name!r} is {wanted} and is given {found}: convert it"
            )

    def _artifact(self, name: str, source: Message) -> Iterator[Finding]:
        at = self._at("artifacts", name)
        yield from self._known("artifacts", name)
        given = None
        match source.WhichOneof("kind"):
            case "task_output_artifact":
                output = source.task_output_artifact
                yield from self._awaited(output.producer_task, at)
                given = yield from find_output(
                    self.spec, self.graph, "artifacts", (output.producer_task, output.output_artifact_key), at
                )
            case "component_input_artifact":
                given = yield from self._handed_down("artifacts", source.component_input_artifact, at)
            case _:
                yield self.spec.finding("input-source", at, f"{name!r} has no source: give it an artifact")
        definitions = self.component.input_definitions.artifacts
        if given is None or name not in definitions or self.task.HasField("artifact_iterator"):
            return
        if not fits_artifact(given, definitions[name]):
            titles = [each.artifact_type.schema_title for each in (definitions[name], given)]
            text = f"{name!r} takes {titles[0]}, single or listed as declared, and is given {titles[1]}"
            yield self.spec.finding("input-type", at, text)

    def _known(self, kind: Kind, name: str) -> Iterator[Finding]:
        definitions = self.component.input_definitions
        if name in getattr(definitions, kind):
            return
        if name in getattr(definitions, _OTHER[kind]):
            text = f"{name!r} is given among the {kind}, the component has it among the {_OTHER[kind]}"
            yield self.spec.finding("input-kind", self._at(kind, name), text)
        elif not name.startswith(CHANNEL):
            known = listed(getattr(definitions, kind))
            text = f"{name!r} is no input of {self.task.component_ref.name}, which has {known}"
            yield self.spec.finding("input-unknown", self._at(kind, name), text)

    def _awaited(self, producer: str, at: Path) -> Iterator[Finding]:
        if producer not in self.graph.tasks:
            text = f"producerTask {producer!r} is no task of this graph: correct the name"
            yield self.spec.finding("producer-missing", at, text)
        elif producer not in self.task.dependent_tasks:
            text = f"{self.name!r} is given something by {producer!r}, not in its dependentTasks: add it"
            yield self.spec.finding("producer-not-awaited", at, text)

    def _handed_down(self, kind: Kind, name: str, at: Path) -> Generator[Finding, None, Message | None]:
        """Returns the definition of the graph's input."""
        definitions = self.graph.component.input_definitions
        given = getattr(definitions, kind)
        if name in given:
            return given[name]
        iterated = (self.task.parameter_iterator.item_input, self.task.artifact_iterator.item_input)
        rule, text = "input-missing", f"{name!r} is no input of this graph, which has {listed(given)}"
        if name in getattr(definitions, _OTHER[kind]):
            rule, text = "input-kind", f"the graph has {name!r} among its {_OTHER[kind]}, not its {kind}"
        if name not in iterated:
            yield self.spec.finding(rule, at, text)
        return None

    def _constant(self, name: str, value: Message, wanted: str, at: Path) -> Iterator[Finding]:
        from google.protobuf import json_format

        if value.WhichOneof("kind") is None:
            yield self.spec.finding("input-source", at, f"{name!r} has an empty constant: give it a value")
            return
        for text in texts(json_format.MessageToDict(value)):
            for inner in _PLACEHOLDER.findall(text):
                yield from self._placeholder(inner, at)
        whole = value.string_value.startswith("{{$") and value.string_value.endswith("}}")
        if not whole and not fits_constant(value, wanted):
            text = f"{name!r} is {wanted} and is given {told_value(value)}: give it a {wanted}"
            yield self.spec.finding("input-type", at, text)

    def _placeholder(self, name: str, at: Path) -> Iterator[Finding]:
        if name not in self.task.inputs.parameters and name != self.task.parameter_iterator.item_input:
            text = f"a placeholder names {name!r}, which is no input of {self.name!r}: give it that input"
            yield self.spec.finding("placeholder-missing", at, text)

    def _not_given(self) -> Iterator[Finding]:
        items = {self.task.parameter_iterator.item_input, self.task.artifact_iterator.item_input}
        for kind in _OTHER:
            given = {*getattr(self.task.inputs, kind), *items}
            for name, definition in sorted(getattr(self.component.input_definitions, kind).items()):
                if name not in given and not _may_be_left_out(definition, kind):
                    text = (
                        f"{self.name!r} is not given {name!r}, which has no default: give it among its {kind}"
                    )
                    yield self.spec.finding("input-required", self._path("inputs"), text)


def _may_be_left_out(definition: Message, kind: Kind) -> bool:
    if definition.is_optional or kind == "artifacts":
        return bool(definition.is_optional)
    return definition.HasField("default_value") or parameter_type(definition) in _GIVEN_BY_KUBEFLOW


def find_output(
    spec: Spec, graph: Graph, kind: Kind, source: tuple[str, str], at: Path
) -> Generator[Finding, None, Message | None]:
    """Returns the definition of an output, which is a task's name and a key."""
    producer, key = source
    component = spec.component(graph.tasks[producer]) if producer in graph.tasks else None
    if component is None:
        return None
    outputs = component.output_definitions
    if key in getattr(outputs, kind):
        return getattr(outputs, kind)[key]
    if key in getattr(outputs, _OTHER[kind]):
        text = f"{producer!r} has {key!r} among its {_OTHER[kind]}, here {kind} are passed on"
        yield spec.finding("input-kind", at, text)
    else:
        text = f"{producer!r} has no output {key!r} among its {kind}: {listed(getattr(outputs, kind))}"
        yield spec.finding("output-missing", at, text)
    return None
