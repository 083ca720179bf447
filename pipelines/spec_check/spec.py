"""A compiled spec, read into the messages that Kubeflow reads it into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pipelines.spec_check.documents import Document
from pipelines.spec_check.findings import RULES, Finding, Location, Path, json_path, one_line
from pipelines.spec_check.secret_forms import secret_form

Message: TypeAlias = Any
"""A protocol buffer."""

EXECUTORS: Path = ("deploymentSpec", "executors")
PLATFORM_EXECUTORS: Path = ("platforms", "kubernetes", "deploymentSpec", "executors")


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A component that runs tasks."""

    name: str
    """Empty for the root."""
    component: Message

    @property
    def path(self) -> Path:
        """Of the component."""
        return ("components", self.name) if self.name else ("root",)

    @property
    def tasks(self) -> Mapping[str, Message]:
        """By name."""
        tasks: Mapping[str, Message] = self.component.dag.tasks
        return tasks

    def task_path(self, task: str, *rest: str | int) -> Path:
        """Of a task, or of something in it."""
        return (*self.path, "dag", "tasks", task, *rest)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The pipeline and what Kubernetes is told of its executors; fields go by either of their spellings."""

    file: str
    document: Document
    platform_document: Document | None
    pipeline: Message
    executors: Mapping[str, Message]
    platform: Mapping[str, Message] = field(default_factory=dict)
    """Kubernetes settings by executor."""
    has_workspace: bool = False
    """Whether all steps share a volume."""

    @property
    def components(self) -> Mapping[str, Message]:
        """By name."""
        components: Mapping[str, Message] = self.pipeline.components
        return components

    def graphs(self) -> Iterator[Graph]:
        """The root, and each component that runs tasks, once."""
        yield Graph(name="", component=self.pipeline.root)
        for name in sorted(self.components):
            if self.components[name].HasField("dag"):
                yield Graph(name=name, component=self.components[name])

    def component(self, task: Message) -> Message | None:
        """That a task refers to; none if it is not there."""
        return self.components.get(task.component_ref.name)

    def finding(self, rule: str, path: Path, message: str) -> Finding:
        """At a path of the pipeline's document."""
        return located(self.file, self.document, rule, path, message)

    def platform_finding(self, rule: str, executor: str, message: str, *rest: str | int) -> Finding:
        """At an executor's Kubernetes settings; at the executor itself where it has none."""
        if self.platform_document is None or executor not in self.platform:
            return self.finding(rule, (*EXECUTORS, executor), message)
        path = (*PLATFORM_EXECUTORS, executor, *rest)
        return located(self.file, self.platform_document, rule, path, message)


def located(
    file: str, document: Document, rule: str, path: Path, message: str, *, line: int | None = None
) -> Finding:
    """A finding in a document; its line is looked up where it is not given.

    What looks like a secret is withheld, whichever rule it has come up under: reports are read by many.
    """
    form = secret_form(message)
    if form:
        message = f"{RULES[rule].text}; what is here is withheld, as it looks like {form}"
    told = tuple("…" if isinstance(key, str) and secret_form(key) else key for key in path)
    return Finding(
        rule=rule,
        severity=RULES[rule].severity,
        message=one_line(message),
        location=Location(
            file=file,
            document=document.number,
            json_path=json_path(told),
            line=document.line(path) if line is None else line,
        ),
    )
