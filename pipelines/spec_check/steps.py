"""The steps of a spec and the parties they belong to, as far as the spec alone says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components import images
from components.agreement.charter import KEY_HOLDER
from pipelines.spec_check.findings import Finding, Path
from pipelines.spec_check.spec import EXECUTORS, Graph, Message, Spec

CENTRE = "the aggregator or coordinator"
"""They share an image; a spec does not tell them apart."""
COMPARISON = "the comparison"
"""It works on data that may lie in one place, and belongs to no party of a round."""
_ROLES = {
    images.SITE.partition(":")[0]: "site",
    images.AGGREGATOR.partition(":")[0]: CENTRE,
    images.KEY_HOLDER.partition(":")[0]: KEY_HOLDER,
    images.COMPARISON.partition(":")[0]: COMPARISON,
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A task that runs a container."""

    graph: Graph
    name: str
    task: Message
    component: Message
    label: str
    """Of its executor."""
    container: Message
    settings: Message | None
    """Of Kubernetes; none where the platform spec has none."""

    @property
    def path(self) -> Path:
        """Of the task."""
        return self.graph.task_path(self.name)

    @property
    def title(self) -> str:
        """What a person knows it by."""
        return self.task.task_info.name or self.name

    @property
    def role(self) -> str:
        """By its image; empty for one that is not ours."""
        return role_of(self.container.image)

    @property
    def is_dispatcher(self) -> bool:
        """Whether it has a site's step done in the site's own cluster: it is the coordinator's then."""
        return bool(self.constant("job")) and self.role == CENTRE

    @property
    def is_sites(self) -> bool:
        """Whether a site runs it: it takes the name of one, or runs in the image of one."""
        named = "site" in self.component.input_definitions.parameters
        return (self.role == "site" or named) and not self.is_dispatcher

    @property
    def site(self) -> str:
        """The site's name; empty where the spec leaves it open."""
        return str(self.constant("site") or "")

    @property
    def party(self) -> str:
        """Whose step it is: a site's name, else the role."""
        if self.is_sites:
            return f"site {self.site}" if self.site else f"a site that {self.name} does not name"
        return self.role or f"whoever runs {self.container.image or 'no image'}"

    def constant(self, parameter: str) -> Any:
        """What the spec itself gives to a parameter; None where a run decides."""
        from google.protobuf import json_format

        parameters = self.task.inputs.parameters
        if parameter not in parameters or parameters[parameter].WhichOneof("kind") != "runtime_value":
            return None
        value = parameters[parameter].runtime_value.constant
        return json_format.MessageToDict(value) if value.WhichOneof("kind") else None


def role_of(image: str) -> str:
    """The trust role that an image is of, wherever its registry is; empty for a foreign one."""
    name = image.partition("@")[0].rsplit("/", 1)[-1]
    return _ROLES.get(name.partition(":")[0], "")


def steps(spec: Spec) -> list[Step]:
    """Every task that runs a container, graph by graph."""
    return list(_steps(spec))


def _steps(spec: Spec) -> Iterator[Step]:
    for graph in spec.graphs():
        for name, task in sorted(graph.tasks.items()):
            component = spec.component(task)
            if component is None or component.executor_label not in spec.executors:
                continue
            label = component.executor_label
            executor = spec.executors[label]
            if executor.HasField("container"):
                yield Step(
                    graph=graph,
                    name=name,
                    task=task,
                    component=component,
                    label=label,
                    container=executor.container,
                    settings=spec.platform.get(label),
                )


def at_container(spec: Spec, step: Step, rule: str, message: str, *rest: str | int) -> Finding:
    """A finding at a step's container."""
    return spec.finding(rule, (*EXECUTORS, step.label, "container", *rest), message)
