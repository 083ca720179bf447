"""What the API server keeps: objects with versions, and every change for those who watch."""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.jobs_api.answers import RefusedError, not_found

Object = dict[str, Any]
JOBS, PODS, CONFIG_MAPS = "jobs.batch", "pods", "configmaps"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change of one object, as a watch tells it."""

    version: int
    kind: str
    resource: str
    namespace: str
    name: str
    object: Object


class Objects:
    """All objects of the cluster; every method is one transaction."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._version = 1000
        self._oldest = 0
        self._kept: dict[tuple[str, str, str], Object] = {}
        self._log: list[Change] = []

    @property
    def version(self) -> int:
        """Of the newest change."""
        with self.changed:
            return self._version

    def create(self, resource: str, namespace: str, fresh: Object) -> Object:
        """Keeps a new object, with what the API server adds to its metadata."""
        with self.changed:
            fresh = copy.deepcopy(fresh)
            metadata = fresh["metadata"]
            name = metadata["name"]
            if (resource, namespace, name) in self._kept:
                raise RefusedError(409, f'{resource} "{name}" already exists', reason="AlreadyExists")
            metadata |= {
                "namespace": namespace,
                "uid": metadata.get("uid") or str(uuid.uuid4()),
                "creationTimestamp": timestamp(),
                "generation": 1,
            }
            self._write("ADDED", resource, namespace, fresh)
            return copy.deepcopy(fresh)

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """The object of that name."""
        with self.changed:
            found = self._kept.get((resource, namespace, name))
            if found is None:
                raise not_found(resource, name)
            return copy.deepcopy(found)

    def list(self, resource: str, namespace: str) -> list[Object]:
        """All objects of a kind, by name."""
        with self.changed:
            kept = sorted(self._kept.items())
            return [
                copy.deepcopy(each) for (kind, of, _), each in kept if (kind, of) == (resource, namespace)
            ]

    def update(self, resource: str, namespace: str, name: str, change: Callable[[Object], None]) -> Object:
        """Changes an object in place."""
        with self.changed:
            found = self._kept.get((resource, namespace, name))
            if found is None:
                raise not_found(resource, name)
            changed = copy.deepcopy(found)
            change(changed)
            self._write("MODIFIED", resource, namespace, changed)
            return copy.deepcopy(changed)

    def remove(self, resource: str, namespace: str, name: str) -> None:
        """Takes an object away."""
        with self.changed:
            found = self._kept.get((resource, namespace, name))
            if found is None:
                raise not_found(resource, name)
            self._write("DELETED", resource, namespace, copy.deepcopy(found))

    def forget_changes(self) -> None:
        """As compaction does: versions so far can no longer be watched from."""
        with self.changed:
            self._oldest = self._version
            self._version += 1
            self._log.clear()

    def follow(
        self, resource: str, namespace: str, version: int, seconds: float, over: threading.Event
    ) -> Iterator[Change | None]:
        """Changes after `version` as they come; None each time none came for a tenth of a second."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not over.is_set():
            with self.changed:
                if version < self._oldest:
                    raise RefusedError(410, f"too old resource version: {version} ({self._oldest})")
                news = [each for each in self._log if each.version > version]
                if not news:
                    self.changed.wait(0.1)
                    news = [each for each in self._log if each.version > version]
            for each in news:
                version = each.version
                if (each.resource, each.namespace) == (resource, namespace):
                    yield each
            if not news:
                yield None

    def _write(self, kind: str, resource: str, namespace: str, changed: Object) -> None:
        self._version += 1
        changed["metadata"]["resourceVersion"] = str(self._version)
        name = changed["metadata"]["name"]
        if kind == "DELETED":
            del self._kept[resource, namespace, name]
        else:
            self._kept[resource, namespace, name] = changed
        change = Change(
            version=self._version,
            kind=kind,
            resource=resource,
            namespace=namespace,
            name=name,
            object=copy.deepcopy(changed),
        )
        self._log.append(change)
        self.changed.notify_all()


def timestamp() -> str:
    """Now, as Kubernetes writes it."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def labelled(of: Mapping[str, Any], selector: str) -> bool:
    """Whether an object has all labels of an equality selector."""
    labels = of["metadata"].get("labels") or {}
    wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
    return all(labels.get(key) == value for key, value in wanted.items())
