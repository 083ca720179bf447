"""Whose artifacts go where: what a site's step writes as an artifact lies in the coordinator's bucket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from pipelines.spec_check.findings import Finding
from pipelines.spec_check.graph_outputs import selectors
from pipelines.spec_check.spec import Graph, Message, Spec
from pipelines.spec_check.steps import Step


@dataclass(frozen=True)
class Handed:
    """An artifact that a graph is itself given, by the name it has there."""

    name: str


Origin: TypeAlias = str | Handed
"""A party, or what whoever runs the graph knows."""


def check_artifact_flow(spec: Spec, steps: list[Step]) -> Iterator[Finding]:
    """Every way from a step of a site to a step of anybody, through graphs that hold graphs.

    The spec must be free of cycles.
    """
    flow = _Flow(spec=spec, parties={(step.graph.name, step.name): step for step in steps})
    for graph in spec.graphs():
        for name, task in sorted(graph.tasks.items()):
            for key, source in sorted(task.inputs.artifacts.items()):
                givers = {each for each in flow.given(graph, source) if isinstance(each, str)}
                for taker in sorted(flow.readers(graph, name, key)):
                    yield from _crossings(spec, graph, (name, key), givers, taker)
    root = Graph(name="", component=spec.pipeline.root)
    for key, source in sorted(root.component.dag.outputs.artifacts.items()):
        for task, output in selectors(source, "artifacts"):
            for giver in sorted(each for each in flow.origins(root, task, output) if isinstance(each, str)):
                if _is_site(giver):
                    text = (
                        f"artifact {key!r} of {giver} is an output of the whole pipeline: hand on a reference"
                    )
                    yield spec.finding(
                        "site-artifact-crosses", ("root", "dag", "outputs", "artifacts", key), text
                    )


def _crossings(
    spec: Spec, graph: Graph, place: tuple[str, str], givers: set[str], taker: str
) -> Iterator[Finding]:
    task, key = place
    path = graph.task_path(task, "inputs", "artifacts", key)
    for giver in sorted(filter(_is_site, givers)):
        if giver == taker:
            text = (
                f"{key!r} of {giver} goes through the coordinator's bucket to {task!r}: hand on a reference"
            )
            yield spec.finding("site-artifact-read", path, text)
        else:
            text = f"{key!r} of {giver} goes to {taker} in {task!r}: hand on a reference"
            yield spec.finding("site-artifact-crosses", path, text)


def _is_site(party: str) -> bool:
    return party.startswith(("site ", "a site "))


@dataclass(kw_only=True)
class _Flow:
    """Follows artifacts backwards to who wrote them, and forwards to who reads them."""

    spec: Spec
    parties: dict[tuple[str, str], Step]
    """The step by graph and task."""
    known: dict[tuple[str, str, str], set[Origin]] = field(default_factory=dict)
    read: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def origins(self, graph: Graph, name: str, key: str) -> set[Origin]:
        """Who may have written an output of a task."""
        at = (graph.name, name, key)
        if at in self.known or name not in graph.tasks:
            return self.known.get(at, set())
        self.known[at] = set()
        task = graph.tasks[name]
        found: set[Origin] = set()
        if (graph.name, name) in self.parties:
            found = {self.parties[graph.name, name].party}
        inner = self._inner(task)
        if inner is not None:
            bound = inner.component.dag.outputs.artifacts
            for subtask, output in selectors(bound[key], "artifacts") if key in bound else ():
                for origin in self.origins(inner, subtask, output):
                    inputs = task.inputs.artifacts
                    if isinstance(origin, str):
                        found.add(origin)
                    elif origin.name in inputs:
                        found |= self.given(graph, inputs[origin.name])
        self.known[at] = found
        return found

    def given(self, graph: Graph, source: Message) -> set[Origin]:
        """Who may have written what a task is given."""
        match source.WhichOneof("kind"):
            case "task_output_artifact":
                output = source.task_output_artifact
                return self.origins(graph, output.producer_task, output.output_artifact_key)
            case "component_input_artifact":
                return {Handed(source.component_input_artifact)}
            case _:
                return set()

    def readers(self, graph: Graph, name: str, key: str) -> set[str]:
        """Who reads what a task is given under a name."""
        if (graph.name, name) in self.parties:
            return {self.parties[graph.name, name].party}
        inner = self._inner(graph.tasks[name])
        return set() if inner is None else self._read_in(inner, key)

    def _read_in(self, graph: Graph, key: str) -> set[str]:
        at = (graph.name, key)
        if at not in self.read:
            self.read[at] = set()
            for name, task in graph.tasks.items():
                for inner_key, source in task.inputs.artifacts.items():
                    if Handed(key) in self.given(graph, source):
                        self.read[at] = self.read[at] | self.readers(graph, name, inner_key)
        return self.read[at]

    def _inner(self, task: Message) -> Graph | None:
        component = self.spec.component(task)
        if component is None or not component.HasField("dag"):
            return None
        return Graph(name=task.component_ref.name, component=component)
