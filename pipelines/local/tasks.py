"""The tasks of a compiled pipeline, by the names under which Kubeflow's local runner mentions them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

COMPONENT_PREFIX = "comp-"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of a pipeline: its name in the compiled spec, and the title that people read."""

    name: str
    title: str


def read_tasks(spec: str) -> dict[str, Task]:
    """All tasks of a compiled pipeline, nested ones included, by the local runner's name for them.

    That name is the name of the task's component without its prefix; the compiler gives every task a
    component of its own. Titles that several tasks share are told apart by the tasks' names.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    pipeline = next(yaml.load_all(spec, Loader=loader))
    found = dict(_tasks_below(pipeline["root"], pipeline.get("components", {})))
    uses = Counter(task.title for task in found.values())
    return {
        name: Task(name=task.name, title=f"{task.title} ({task.name})") if uses[task.title] > 1 else task
        for name, task in found.items()
    }


def _tasks_below(component: Mapping[str, Any], components: Mapping[str, Any]) -> Iterator[tuple[str, Task]]:
    for name, task in component.get("dag", {}).get("tasks", {}).items():
        reference = task["componentRef"]["name"]
        title = task.get("taskInfo", {}).get("name") or name
        yield reference.removeprefix(COMPONENT_PREFIX), Task(name=name, title=title)
        yield from _tasks_below(components.get(reference, {}), components)
