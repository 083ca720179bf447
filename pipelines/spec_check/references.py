"""Names that must be there: components, executors, tasks; and graphs that must end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

from pipelines.spec_check.findings import Finding
from pipelines.spec_check.spec import EXECUTORS, Graph, Message, Spec

MOST_NAMED = 6
"""Names in a message; the others are counted."""


def check_references(spec: Spec) -> Iterator[Finding]:
    """Dangling references, cycles, what contains itself, and what nothing refers to."""
    if not spec.pipeline.root.dag.tasks:
        yield spec.finding("root-empty", ("root",), "root.dag.tasks is empty: compile a pipeline with a step")
    for name, component in sorted(spec.components.items()):
        yield from _implementation(spec, name, component)
    for graph in spec.graphs():
        yield from _tasks(spec, graph)
        yield from _cycles(spec, graph)
    yield from _containment(spec)
    yield from _unused(spec)
    for name in sorted(set(spec.platform) - set(spec.executors)):
        text = f"the spec has no executor {name!r}, so nothing gets these settings: correct the name"
        yield spec.platform_finding("platform-executor-missing", name, text)


def listed(names: Iterable[str]) -> str:
    """Names in a message: the first few, in order."""
    found = sorted(names)
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return (", ".join(found[:MOST_NAMED]) or "none") + more


def _implementation(spec: Spec, name: str, component: Message) -> Iterator[Finding]:
    path = ("components", name)
    label = component.executor_label
    if component.WhichOneof("implementation") is None:
        text = f"{name!r} has neither executorLabel nor dag: nothing would run"
        yield spec.finding("component-empty", path, text)
    elif label and label not in spec.executors:
        text = f"executorLabel {label!r} is not in deploymentSpec.executors: {listed(spec.executors)}"
        yield spec.finding("executor-missing", (*path, "executorLabel"), text)
    elif not label and not component.HasField("dag"):
        yield spec.finding("component-empty", path, f"{name!r} has an empty executorLabel: name an executor")
    if component.single_platform_specs:
        text = (
            f"{name!r} carries platform settings of its own: only the platform spec is read, put them there"
        )
        yield spec.finding("platform-embedded", (*path, "singlePlatformSpecs"), text)


def _tasks(spec: Spec, graph: Graph) -> Iterator[Finding]:
    for name, task in sorted(graph.tasks.items()):
        reference = task.component_ref.name
        if reference not in spec.components:
            text = f"componentRef {reference!r} is not in components: recompile, or correct the name"
            yield spec.finding("component-missing", graph.task_path(name, "componentRef"), text)
        for index, other in enumerate(task.dependent_tasks):
            if other not in graph.tasks:
                text = f"{name!r} waits for {other!r}, which is no task of its graph: {listed(graph.tasks)}"
                yield spec.finding("task-missing", graph.task_path(name, "dependentTasks", index), text)
        if not task.task_info.name:
            text = f"{name!r} has no taskInfo.name: set_display_name gives it one"
            yield spec.finding("task-unnamed", graph.task_path(name), text)


def _cycles(spec: Spec, graph: Graph) -> Iterator[Finding]:
    """One cycle of a graph at a time: mending it shows the next."""
    waits = {name: list(task.dependent_tasks) for name, task in sorted(graph.tasks.items())}
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        around: list[str] = error.args[1]
        text = f"these wait for each other: {' → '.join(reversed(around))}; take one dependentTasks entry out"
        yield spec.finding("task-cycle", graph.task_path(around[0], "dependentTasks"), text)


def _containment(spec: Spec) -> Iterator[Finding]:
    holds = {
        graph.name: {task.component_ref.name for task in graph.tasks.values()} - {""}
        for graph in spec.graphs()
    }
    try:
        TopologicalSorter(holds).prepare()
    except CycleError as error:
        around: list[str] = error.args[1]
        text = f"a component contains itself: {' → '.join(reversed(around))}; Kubeflow would never end it"
        yield spec.finding("component-recursive", ("components", around[0]), text)


def _unused(spec: Spec) -> Iterator[Finding]:
    reached: set[str] = set()
    waiting = [spec.pipeline.root]
    while waiting:
        for task in waiting.pop().dag.tasks.values():
            name = task.component_ref.name
            if name in spec.components and name not in reached:
                reached.add(name)
                waiting.append(spec.components[name])
    for name in sorted(set(spec.components) - reached):
        text = f"no task that runs refers to {name!r}: take it out"
        yield spec.finding("component-unused", ("components", name), text)
    labels = {spec.components[name].executor_label for name in reached}
    for name in sorted(set(spec.executors) - labels):
        text = f"no component that runs has the executor {name!r}: take it out"
        yield spec.finding("executor-unused", (*EXECUTORS, name), text)
