"""Documents to a spec: what does not fit Kubeflow's own messages is found here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from components.errors import UsageError
from pipelines.spec_check.documents import Document
from pipelines.spec_check.findings import Finding, Path
from pipelines.spec_check.spec import EXECUTORS, PLATFORM_EXECUTORS, Message, Spec, located

_PIPELINE_FIELDS = frozenset({"pipelineInfo", "root", "components", "deploymentSpec", "schemaVersion"})
_UNKNOWN = re.compile(r'Message type "(?:\w+\.)*(\w+)" has no field named "([^"]*)"(?: at "\w+\.?([^"]*)")?')
_KNOWN = re.compile(r"Available Fields\(except extensions\): \"?\[(.*?)\]")
_AT = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")
_UNREADABLE = "the rest is checked once this fits"


def read_spec(documents: list[Document], file: str) -> tuple[Spec | None, list[Finding]]:
    """The spec, if it can be read at all, and what in it does not fit.

    Raises:
        UsageError: the documents are no compiled spec.
    """
    document, platform_document = _told_apart(documents, file)
    found = [
        located(file, each, "duplicate-key", (*path, key), f"{key!r} stands twice here: keep one", line=line)
        for each in documents
        for path, key, line in each.duplicates()
    ]
    reader = _Reader(file)
    found += reader.pipeline_misfits(document)
    pipeline = reader.pipeline(document)
    executors: dict[str, Message] = {}
    platform: dict[str, Message] = {}
    if pipeline is not None:
        executors = dict(reader.executors(document, pipeline.deployment_spec))
    if platform_document is not None:
        platform = dict(reader.platform(platform_document))
    found += reader.found
    if pipeline is None or reader.unreadable:
        return None, found
    spec = Spec(
        file=file,
        document=document,
        platform_document=platform_document,
        pipeline=pipeline,
        executors=executors,
        platform=platform,
        has_workspace=reader.has_workspace,
    )
    return spec, found


def _told_apart(documents: list[Document], file: str) -> tuple[Document, Document | None]:
    """The pipeline's document and the platform's."""
    pipelines, platforms = [], []
    for document in documents:
        if _PIPELINE_FIELDS & set(document.value):
            pipelines.append(document)
        elif "platforms" in document.value:
            platforms.append(document)
        else:
            raise UsageError(
                f"{file} is not a compiled spec: document {document.number} has neither of "
                f"{', '.join(sorted(_PIPELINE_FIELDS))} nor platforms"
            )
    if len(pipelines) != 1 or len(platforms) > 1:
        raise UsageError(
            f"{file} is not a compiled spec: it holds {len(pipelines)} pipelines and "
            f"{len(platforms)} platforms, not one pipeline and at most one platform"
        )
    return pipelines[0], platforms[0] if platforms else None


class _Reader:
    """Parses piece by piece, so that one misfit hides no other; remembers what it has found."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Finding] = []
        self.unreadable = False
        self.has_workspace = False

    def pipeline_misfits(self, document: Document) -> Iterator[Finding]:
        """Of every component and every task by itself, and of what stands around them."""
        from kfp.pipeline_spec import pipeline_spec_pb2 as messages

        value = dict(document.value)
        pieces: list[tuple[Path, Any]] = []
        if isinstance(value.get("root"), dict):
            pieces.append((("root",), value.pop("root")))
        if isinstance(value.get("components"), dict):
            pieces += [(("components", name), each) for name, each in value.pop("components").items()]
        yield from self._misfits(document, (), value, messages.PipelineSpec())
        for path, piece in pieces:
            rest = piece
            if isinstance(piece, dict) and isinstance(piece.get("dag"), dict):
                tasks = piece["dag"].get("tasks")
                if isinstance(tasks, dict):
                    outer = {name: each for name, each in piece["dag"].items() if name != "tasks"}
                    rest = {**piece, "dag": outer}
                    for name, task in tasks.items():
                        at = (*path, "dag", "tasks", name)
                        yield from self._misfits(document, at, task, messages.PipelineTaskSpec())
            yield from self._misfits(document, path, rest, messages.ComponentSpec())

    def pipeline(self, document: Document) -> Message | None:
        """The whole, less what is unknown; none if it cannot be read."""
        from kfp.pipeline_spec import pipeline_spec_pb2 as messages

        whole = messages.PipelineSpec()
        return None if _misfit(document.value, whole, lenient=True) else whole

    def executors(self, document: Document, deployment: Message) -> Iterator[tuple[str, Message]]:
        """The executors of a deployment, which the pipeline holds as a structure without a schema."""
        from google.protobuf import json_format
        from kfp.pipeline_spec import pipeline_spec_pb2 as messages

        value = json_format.MessageToDict(deployment)
        listed = value.pop("executors", {})
        if not isinstance(listed, dict):
            value, listed = {"executors": listed}, {}
        outer = messages.PipelineDeploymentConfig()
        self.found += self._misfits(document, EXECUTORS[:1], value, outer, fatal=True)
        for name, each in listed.items():
            executor = messages.PipelineDeploymentConfig.ExecutorSpec()
            self.found += self._misfits(document, (*EXECUTORS, name), each, executor, fatal=True)
            yield name, executor

    def platform(self, document: Document) -> Iterator[tuple[str, Message]]:
        """The Kubernetes settings by executor."""
        from google.protobuf import json_format
        from kfp.kubernetes import kubernetes_executor_config_pb2
        from kfp.pipeline_spec import pipeline_spec_pb2 as messages

        whole = messages.PlatformSpec()
        self.found += self._misfits(document, (), document.value, whole, fatal=True)
        if "kubernetes" not in whole.platforms:
            return
        self.has_workspace = whole.platforms["kubernetes"].pipelineConfig.HasField("workspace")
        for name, each in whole.platforms["kubernetes"].deployment_spec.executors.items():
            settings = kubernetes_executor_config_pb2.KubernetesExecutorConfig()
            value = json_format.MessageToDict(each)
            self.found += self._misfits(document, (*PLATFORM_EXECUTORS, name), value, settings, fatal=True)
            yield name, settings

    def _misfits(
        self, document: Document, path: Path, value: object, message: Message, *, fatal: bool = False
    ) -> Iterator[Finding]:
        """What keeps a value out of a message; the message then holds what is known of it."""
        problem = _misfit(value, message)
        if not problem:
            return
        message.Clear()
        unreadable = _misfit(value, message, lenient=True)
        self.unreadable |= fatal and bool(unreadable)
        if unreadable:
            yield located(self.file, document, "field-value", path, f"{unreadable}: {_UNREADABLE}")
        else:
            yield self._told(document, path, problem)

    def _told(self, document: Document, path: Path, problem: str) -> Finding:
        unknown = _UNKNOWN.search(problem)
        if unknown is None:
            return located(self.file, document, "field-value", path, _plain(problem))
        kind, name, below = unknown.groups()
        inside = tuple(key or word for key, word in _AT.findall(below or ""))
        listed = _KNOWN.search(problem)
        known = listed.group(1).replace("'", "") if listed else ""
        text = f"{name!r} is no field of {kind}: it has {known or 'none'}"
        return located(self.file, document, "unknown-field", (*path, *inside, name), text)


def _misfit(value: object, message: Message, *, lenient: bool = False) -> str:
    """Why a value cannot be parsed into a message; empty if it can."""
    from google.protobuf import json_format

    if not isinstance(value, dict):
        return f"a {type(message).__name__} is a mapping, got {type(value).__name__}"
    try:
        json_format.ParseDict(value, message, ignore_unknown_fields=lenient)
    except (json_format.ParseError, OverflowError, TypeError, ValueError, AttributeError) as error:
        return str(error)
    return ""


def _plain(problem: str) -> str:
    """Protobuf's own words without the chain of fields that lead to them."""
    return re.sub(r"^(?:Failed to parse \S+ field: )+", "", problem).splitlines()[0].rstrip(".")
