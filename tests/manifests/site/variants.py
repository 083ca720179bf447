"""Ways in which a Job can differ from the permitted one."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.manifests.site.admission import Manifest

POD = "spec.template.spec"
STEP = f"{POD}.containers.0"


class Gone:
    """In place of a value: the field is taken away."""

    def __repr__(self) -> str:
        return "gone"


GONE = Gone()


@dataclass(frozen=True)
class Variant:
    """A Job that must be refused.

    Attributes:
        topic: of the validation that refuses it.
        changes: paths into the Job as an API server presents it, and what stands there instead. `+` at the
            end of a path adds to a list.
    """

    topic: str
    changes: Mapping[str, Any]

    @property
    def paths(self) -> list[str]:
        """What it touches."""
        return list(self.changes)

    def __str__(self) -> str:
        return "; ".join(
            f"{path.replace(STEP, 'step').replace(POD, 'pod')}={value!r}"[:70]
            for path, value in self.changes.items()
        )

    def of(self, job: Manifest) -> Manifest:
        """The Job, changed."""
        changed = copy.deepcopy(job)
        for path, value in self.changes.items():
            put(changed, path, value)
        return changed


def keys_of(path: str) -> list[str]:
    """Steps of a path; a key that has dots in it stands in brackets."""
    return [bracketed or plain for bracketed, plain in re.findall(r"\[([^]]+)]|([^.[]+)", path)]


def put(document: Any, path: str, value: Any) -> None:
    """Sets, adds to or takes away what a path leads to; what is missing on the way is made."""
    *way, last = keys_of(path)
    for key in way:
        document = document[int(key)] if isinstance(document, list) else document.setdefault(key, {})
    if last == "+":
        document.append(value)
    elif isinstance(value, Gone):
        del document[int(last) if isinstance(document, list) else last]
    elif isinstance(document, list):
        document[int(last)] = value
    else:
        document[last] = value


def pod(topic: str, field: str, value: Any) -> Variant:
    """One change of the pod."""
    return Variant(topic, {f"{POD}.{field}": value})


def step(topic: str, field: str, value: Any) -> Variant:
    """One change of the container."""
    return Variant(topic, {f"{STEP}.{field}": value})


def job(topic: str, path: str, value: Any) -> Variant:
    """One change of the Job."""
    return Variant(topic, {path: value})
