"""Runs a compiled pipeline with Kubeflow's DockerRunner, and tells what became of each step's container.

The runner takes a container that ends before its logs are read for a success. So its word counts for nothing:
how a container ended is read from the engine, which reports the death of each with its exit code.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import yaml

from components import images
from pipelines.local.events import StepEvent
from pipelines.local.observer import LineTap, RunObserver
from pipelines.local.tasks import COMPONENT_PREFIX, read_tasks

LABEL = "dev.crosscloud.test-run"
PATIENCE_S = 10.0


class ContainerRunError(AssertionError):
    """A run that failed, or whose containers are not what the compiled pipeline names."""


@dataclass(frozen=True, kw_only=True)
class EndedStep:
    """A step that ran in a container, and how that ended."""

    title: str
    image: str
    exit_code: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Death:
    """A container that the engine reports to have ended."""

    image: str
    exit_code: int


class Deaths:
    """Follows the engine's reports of containers with a label, in a thread of its own."""

    def __init__(self, label: str) -> None:
        import docker

        self._engine = docker.from_env()
        self._stream = self._engine.events(decode=True, filters={"event": "die", "label": label})
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.seen: list[Death] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._thread.join(PATIENCE_S)
        self._engine.close()

    def await_as_many_as(self, count: int) -> None:
        """Waits until `count` containers have been reported, or a while has passed."""
        end = time.monotonic() + PATIENCE_S
        while len(self.seen) < count and time.monotonic() < end:
            time.sleep(0.05)

    def _follow(self) -> None:
        for event in self._stream:
            attributes = event["Actor"]["Attributes"]
            self.seen.append(Death(image=attributes["image"], exit_code=int(attributes["exitCode"])))


def run_in_containers(
    spec: Path, arguments: Mapping[str, Any], *, home: Path, pipeline_root: Path, log: Path
) -> list[EndedStep]:
    """Runs the compiled pipeline `spec`, each step in the image it names, and returns the steps in order.

    Containers have no more than a cluster under the restricted standard gives them: a user without
    privileges, no capabilities, a root file system that cannot be written. They see `home` and
    `pipeline_root`, both of which this hands to that user.

    Raises:
        ContainerRunError: a container ended with another code than 0, ran another image than its step
            names, or the run failed otherwise.
    """
    from kfp import components, local

    text = spec.read_text(encoding="utf-8")
    named = images_by_title(text)
    started: list[StepEvent] = []
    ended: list[StepEvent] = []
    observer = RunObserver(read_tasks(text), lambda event: _note(event, started, ended))
    label = f"{LABEL}={uuid.uuid4().hex}"
    pipeline_root.mkdir(parents=True)
    user = give_to_runner(home)
    problem = ""
    with Deaths(label) as deaths, log.open("a", encoding="utf-8") as kept, _observed(kept, observer):
        local.init(confined(home, user, label), pipeline_root=str(pipeline_root))
        try:
            components.load_component_from_text(text)(**arguments)
        except (RuntimeError, ValueError, LookupError, OSError) as error:
            observer.abort()  # of a step that kfp took for a success, no end is told
            problem = f"{type(error).__name__}: {error}"
        deaths.await_as_many_as(len(started))
    steps = [
        EndedStep(title=event.title, image=death.image, exit_code=death.exit_code, seconds=end.seconds or 0.0)
        for event, end, death in zip(started, ended, deaths.seen, strict=False)
    ]
    wrong = [
        f"{step.title} ended with {step.exit_code} in {step.image}, expected 0 in {named[step.title]}"
        for step in steps
        if step.exit_code or step.image != named[step.title]
    ]
    if problem or wrong or [step.title for step in steps] != [event.title for event in started]:
        counted = f"{len(started)} steps began, {len(deaths.seen)} containers ended"
        raise ContainerRunError("\n".join(filter(None, [*wrong, problem, f"{counted}; see {log}"])))
    if missing := set(named) - {step.title for step in steps}:
        raise ContainerRunError(f"never ran: {', '.join(sorted(missing))}; see {log}")
    return steps


def confined(home: Path, user: int, label: str) -> Any:
    """Kubeflow's runner, with what its containers may see and do."""
    import docker
    from kfp import local

    name, _, value = label.partition("=")
    # Where /work is a folder of the image's own, as an empty volume is in a cluster.
    scratch = {"/work": f"uid={user},gid={user},mode=0700", "/tmp": ""}
    return local.DockerRunner(
        user=f"{user}:{user}",
        network_mode="none",
        read_only=True,
        tmpfs=scratch,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        mounts=[docker.types.Mount(target=str(home), source=str(home), type="bind")],
        environment={"CROSSCLOUD_HOME": str(home)},
        labels={name: value},
    )


def give_to_runner(home: Path) -> int:
    """Gives `home` to whom containers run as, and says who: the images' user, or this one if not root."""
    if os.getuid():
        return os.getuid()
    for path in [home, *home.rglob("*")]:
        os.chown(path, images.USER, images.USER, follow_symlinks=False)
    return images.USER


def images_by_title(spec: str) -> dict[str, str]:
    """The image that a compiled pipeline names for each of its steps, by the step's title."""
    document = next(yaml.safe_load_all(spec))
    executors = document["deploymentSpec"]["executors"]
    titles = read_tasks(spec)
    return {
        titles[name.removeprefix(COMPONENT_PREFIX)].title: executors[component["executorLabel"]]["container"][
            "image"
        ]
        for name, component in document["components"].items()
    }


def _note(event: StepEvent, started: list[StepEvent], ended: list[StepEvent]) -> None:
    if event.status == "started":
        started.append(event)
    elif event.status in {"succeeded", "failed"}:
        ended.append(event)


@contextlib.contextmanager
def _observed(log: TextIO, observer: RunObserver) -> Iterator[None]:
    """Sends what kfp prints to the log, with the observer reading along; kfp's folders are for all users."""
    root, output, mask = logging.getLogger(), sys.stdout, os.umask(0)
    sys.stdout = LineTap(log, observer.read)
    root.addFilter(observer)
    try:
        with warnings.catch_warnings():
            # Titles and accelerators are for a cluster, as kfp says of each task.
            warnings.filterwarnings("ignore", module=r"kfp(\.|$)")
            yield
    finally:
        root.removeFilter(observer)
        sys.stdout = output
        os.umask(mask)
