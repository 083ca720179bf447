"""What a check has found in a spec, where it is, and the rule it breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning"]
Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What every spec keeps; its id is stable."""

    id: str
    severity: Severity
    text: str


@dataclass(frozen=True, kw_only=True)
class Location:
    """A place in a file: a document of its stream from 1, a JSON path, and a line from 1."""

    file: str
    document: int
    json_path: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One breach of a rule: the value, the rule and the mend in one line."""

    rule: str
    severity: Severity
    message: str
    location: Location


def json_path(path: Path) -> str:
    """Such as `$.root.dag.tasks['seal-2'].inputs`."""
    told = "$"
    for key in path:
        if isinstance(key, int):
            told += f"[{key}]"
        elif key.isidentifier():
            told += f".{key}"
        else:
            told += "['" + one_line(key.replace("\\", "\\\\").replace("'", "\\'")) + "']"
    return told


def one_line(text: str) -> str:
    """The text with whatever would break a line, or drive a terminal, escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


_ERRORS = {
    "duplicate-key": "a mapping holds each key once",
    "unknown-field": "a spec holds fields that Kubeflow knows",
    "field-value": "a field holds a value of its type",
    "root-empty": "the root runs at least one task",
    "component-missing": "a task refers to a component of the spec",
    "component-empty": "a component is a graph or has an executor",
    "component-recursive": "no component contains itself",
    "executor-missing": "a component's executor is in the spec",
    "executor-kind": "an executor runs a container",
    "platform-executor-missing": "a platform config belongs to an executor of the spec",
    "platform-embedded": "platform configs stand in the platform spec alone",
    "task-missing": "a task waits for tasks of its own graph",
    "task-cycle": "no task waits for itself",
    "producer-missing": "what a task is given comes from a task of its own graph",
    "producer-not-awaited": "a task waits for those that give it something",
    "output-missing": "what is passed on is an output of its producer",
    "output-unbound": "an output of a graph comes from one of its tasks",
    "input-missing": "what is handed down is an input of the graph",
    "input-unknown": "a task is given inputs of its component only",
    "input-required": "a task is given every input that has no default",
    "input-kind": "artifacts go to artifacts and parameters to parameters",
    "input-type": "what is given has the type of the input",
    "input-source": "an input has a source",
    "placeholder-missing": "a placeholder names an input or output that is there",
    "iterator": "a loop goes over a list that is there, into an input that is there",
    "image-foreign": "every image is one of crosscloud's",
    "image-unpinned": "an image is named by digest or by a full version",
    "image-role": "the site's steps run in the site's image, and in no other",
    "install-at-run-time": "nothing is installed when a step runs",
    "caching": "no task is answered from Kubeflow's cache",
    "argument-size": "an argument stays below 128 KiB",
    "secret-env": "secrets are mounted as files, not put into the environment",
    "secret-value": "no secret stands in a spec",
    "secret-owner": "a secret is mounted in the tasks of its owner only",
    "secret-chosen": "the name of a secret is fixed when the spec is compiled",
    "placement-missing": "every step of a site is placed on the site's nodes",
    "placement-shared": "no two parties run on the same nodes",
    "volume-shared": "no two parties mount the same volume",
    "root-user": "no container runs as root",
    "security-context": "every container is kept from running as root",
    "job-terms": "a dispatcher knows who creates its site's Jobs, and where",
    "site-unnamed": "a step of a site names its site",
    "site-deadline": "a step of a site has a deadline, which ends before its pod's",
    "site-artifact-crosses": "no artifact of a site's step goes to another party",
}
_WARNINGS = {
    "component-unused": "every component is run by a task",
    "executor-unused": "every executor belongs to a component",
    "task-unnamed": "every task has a name in the UI",
    "loop-used": "sites are unrolled instead of looped over",
    "site-artifact-read": "a site's steps hand their data on through the site's own store",
}

RULES: dict[str, Rule] = {
    **{name: Rule(id=name, severity="error", text=text) for name, text in _ERRORS.items()},
    **{name: Rule(id=name, severity="warning", text=text) for name, text in _WARNINGS.items()},
}
"""By id."""
