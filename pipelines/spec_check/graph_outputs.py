"""What graphs pass on, what loops go over, and what containers ask to be filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from pipelines.spec_check.findings import Finding
from pipelines.spec_check.references import listed
from pipelines.spec_check.spec import EXECUTORS, Graph, Message, Spec
from pipelines.spec_check.types import parameter_type
from pipelines.spec_check.wiring import Kind, find_output

_FILLED_IN = re.compile(r"\{\{\$\.(inputs|outputs)\.(parameters|artifacts)\['([^']+)'\]")


def check_graph_outputs(spec: Spec) -> Iterator[Finding]:
    """Every declared output of a graph has a source, and every source is there."""
    for graph in spec.graphs():
        yield from _outputs(spec, graph)


def check_loops(spec: Spec) -> Iterator[Finding]:
    """Loops have a list and a place for its items; a federation needs none."""
    for graph in spec.graphs():
        for name, task in sorted(graph.tasks.items()):
            for each in ("parameter_iterator", "artifact_iterator"):
                if task.HasField(each):
                    yield from _loop(spec, graph, name, task, each)


def check_placeholders(spec: Spec) -> Iterator[Finding]:
    """What stands in commands and arguments to be filled in is there."""
    for name, component in sorted(spec.components.items()):
        if component.executor_label not in spec.executors:
            continue
        container = spec.executors[component.executor_label].container
        for part in ("command", "args"):
            for index, text in enumerate(getattr(container, part)):
                for side, kind, key in _FILLED_IN.findall(text):
                    definitions = (
                        component.input_definitions if side == "inputs" else component.output_definitions
                    )
                    if key not in getattr(definitions, kind):
                        path = (*EXECUTORS, component.executor_label, "container", part, index)
                        told = (
                            f"a placeholder names {key!r}, which is not among the {side} of {name}: {kind} "
                        )
                        told += listed(getattr(definitions, kind))
                        yield spec.finding("placeholder-missing", path, told)


def _outputs(spec: Spec, graph: Graph) -> Iterator[Finding]:
    declared, bound = graph.component.output_definitions, graph.component.dag.outputs
    kinds: tuple[Kind, Kind] = ("parameters", "artifacts")
    for kind in kinds:
        sources = getattr(bound, kind)
        for name in sorted(set(getattr(declared, kind)) - set(sources)):
            text = f"output {name!r} is declared and none of the tasks gives it: bind it in dag.outputs"
            yield spec.finding("output-unbound", (*graph.path, "outputDefinitions", kind, name), text)
        for name, source in sorted(sources.items()):
            path = (*graph.path, "dag", "outputs", kind, name)
            if name not in getattr(declared, kind):
                text = f"output {name!r} is bound and not declared: add it to outputDefinitions"
                yield spec.finding("output-unbound", path, text)
            selected = selectors(source, kind)
            if not selected:
                yield spec.finding("output-unbound", path, f"output {name!r} selects no task: name one")
            for task, key in selected:
                if task not in graph.tasks:
                    text = f"producerSubtask {task!r} is no task of this graph: correct the name"
                    yield spec.finding("producer-missing", path, text)
                else:
                    yield from find_output(spec, graph, kind, (task, key), path)


def selectors(source: Message, kind: Kind) -> list[tuple[str, str]]:
    """Tasks and their outputs that a graph's output may come from."""
    if kind == "artifacts":
        return [(each.producer_subtask, each.output_artifact_key) for each in source.artifact_selectors]
    match source.WhichOneof("kind"):
        case "value_from_parameter":
            chosen = [source.value_from_parameter]
        case "value_from_oneof":
            chosen = list(source.value_from_oneof.parameter_selectors)
        case _:
            chosen = []
    return [(each.producer_subtask, each.output_parameter_key) for each in chosen]


def _loop(spec: Spec, graph: Graph, name: str, task: Message, field: str) -> Iterator[Finding]:
    kind, spelt = (
        ("parameters", "parameterIterator") if field.startswith("p") else ("artifacts", "artifactIterator")
    )
    iterator, path = getattr(task, field), graph.task_path(name, spelt)
    text = f"{name!r} is a loop, whose retries Kubeflow ignores: unroll it when the spec is compiled"
    yield spec.finding("loop-used", path, text)
    component = spec.component(task)
    item = iterator.item_input
    if component is not None and item not in getattr(component.input_definitions, kind):
        text = f"itemInput {item!r} is no input of {task.component_ref.name} among its {kind}"
        yield spec.finding("iterator", (*path, "itemInput"), text)
    if kind == "parameters" and iterator.items.WhichOneof("kind") == "raw":
        if not _is_list(iterator.items.raw):
            yield spec.finding(
                "iterator", (*path, "items"), f"items.raw of {name!r} is no JSON list: give it one"
            )
        return
    over = iterator.items.input_parameter if kind == "parameters" else iterator.items.input_artifact
    if over not in getattr(task.inputs, kind):
        text = f"{name!r} loops over {over!r}, which is not among its {kind}: give it that input"
        yield spec.finding("iterator", (*path, "items"), text)
    elif kind == "parameters" and component is not None and over in component.input_definitions.parameters:
        given = parameter_type(component.input_definitions.parameters[over])
        if given not in {"", "LIST", "STRING"}:
            text = f"{name!r} loops over {over!r}, which is {given}: give it a LIST"
            yield spec.finding("iterator", (*path, "items"), text)


def _is_list(raw: str) -> bool:
    try:
        return isinstance(json.loads(raw), list)
    except (ValueError, RecursionError):
        return False
