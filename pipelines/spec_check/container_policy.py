"""What a container may be: one of our images, pinned, complete, uncached, with short arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from components import images
from pipelines.spec_check.findings import Finding
from pipelines.spec_check.spec import EXECUTORS, Spec
from pipelines.spec_check.steps import CENTRE, Step, at_container, role_of

LARGEST_ARGUMENT = 128 << 10
"""Bytes that Linux takes as one argument, the NUL at its end included."""

OURS = tuple(
    image.partition(":")[0]
    for image in (images.SITE, images.AGGREGATOR, images.KEY_HOLDER, images.COMPARISON)
)
_PINNED = re.compile(r"(?:@sha256:[0-9a-f]{64}|:v?\d+\.\d+\.\d+(?:[-+_.][\w.-]+)?)$")
_BETWEEN = r"[\s\"',\]\[]+(?:-[\w=./:-]+[\s\"',]+)*"
_INSTALL = re.compile(
    rf"\b(?:pip3?(?:\.\d+)?|conda|mamba|apt|apt-get|dnf|apk|npm){_BETWEEN}(?:install|add)\b"
    rf"|\b(?:packages_to_install|ensurepip)\b|\buv{_BETWEEN}(?:add|sync|tool)\b"
)


def check_containers(spec: Spec, steps: list[Step]) -> Iterator[Finding]:
    """Of every executor, whether or not a task runs it, and of every task."""
    for label, executor in sorted(spec.executors.items()):
        path = (*EXECUTORS, label)
        kind = executor.WhichOneof("spec")
        if kind != "container":
            text = f"{label!r} is {kind or 'empty'}: only containers run here, recompile without it"
            yield spec.finding("executor-kind", path, text)
            continue
        yield from _image(spec, label, executor.container.image)
        words = [*executor.container.command, *executor.container.args]
        installed = _INSTALL.search(" ".join(words))
        if installed:
            text = f"{label!r} says {' '.join(installed.group().split())!r}: put what it needs into the image"
            yield spec.finding("install-at-run-time", (*path, "container"), text)
    for step in steps:
        yield from _role(spec, step)
        yield from _arguments(spec, step)
    yield from _caching(spec)


def _image(spec: Spec, label: str, image: str) -> Iterator[Finding]:
    path = (*EXECUTORS, label, "container", "image")
    if not role_of(image):
        text = f"{image!r} is not one of {', '.join(OURS)}: a step runs in its party's image"
        yield spec.finding("image-foreign", path, text)
    if not _PINNED.search(image):
        text = (
            f"{image!r} can change under its name: end it with a version, as :{images.VERSION}, or @sha256:…"
        )
        yield spec.finding("image-unpinned", path, text)


def _role(spec: Spec, step: Step) -> Iterator[Finding]:
    if step.constant("job") and step.role not in {CENTRE, ""}:
        text = (
            f"{step.title!r} dispatches a Job and runs in {step.container.image!r}: use {images.AGGREGATOR}"
        )
        yield at_container(spec, step, "image-role", text, "image")
    elif step.is_sites and step.role not in {"site", ""}:
        text = f"{step.title!r} is a site's step and runs in {step.container.image!r}: use {images.SITE}"
        yield at_container(spec, step, "image-role", text, "image")


def _arguments(spec: Spec, step: Step) -> Iterator[Finding]:
    for part in ("command", "args"):
        for index, word in enumerate(getattr(step.container, part)):
            if len(word.encode()) >= LARGEST_ARGUMENT:
                text = (
                    f"an argument of {len(word.encode()):,} bytes: Linux takes less than {LARGEST_ARGUMENT:,}"
                )
                yield at_container(spec, step, "argument-size", f"{text}, hand it on in a store", part, index)
    given = {name: step.constant(name) for name in sorted(step.task.inputs.parameters)}
    size = len(json.dumps(given, ensure_ascii=False).encode())
    if size >= LARGEST_ARGUMENT:
        text = (
            f"{step.title!r} is given {size:,} bytes of constants, which reach it in one argument: "
            f"Linux takes less than {LARGEST_ARGUMENT:,}, hand them on in a store"
        )
        yield spec.finding("argument-size", (*step.path, "inputs", "parameters"), text)


def _caching(spec: Spec) -> Iterator[Finding]:
    for graph in spec.graphs():
        for name, task in sorted(graph.tasks.items()):
            if task.caching_options.enable_cache:
                text = (
                    f"{name!r} may be answered from the cache, whose keys hold no contents: turn caching off"
                )
                yield spec.finding("caching", graph.task_path(name, "cachingOptions"), text)
