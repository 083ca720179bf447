"""What an API server answers, read with limits: it is another party's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from components.execution.jobs.patience import Clock
from components.execution.jobs.refusals import RefusedRequestError, message_of

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

Job = Mapping[str, Any]
"""A Job or pod as the API server writes it."""
_LARGEST_ANSWER = 8 << 20


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Takes the client's own error apart: its text holds headers and body."""
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        headers = error.headers or {}
        try:
            retry_after_s = max(0.0, float(headers.get("Retry-After", 0)))
        except ValueError:
            retry_after_s = 0.0
        raise RefusedRequestError(
            error.status or 0, message_of(error.body), retry_after_s=retry_after_s
        ) from None


def document(answer: BaseHTTPResponse, seconds: float, clock: Clock) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        ValueError: it is none, is too large, or comes too slowly.
    """
    deadline = clock.now() + seconds
    content = bytearray()
    # Closed whatever comes of it: dispatchers ask seldom, and a connection kept may have died meanwhile.
    with contextlib.closing(answer):
        while part := answer.read1(1 << 16):
            content += part
            if len(content) > _LARGEST_ANSWER or clock.now() > deadline:
                raise ValueError("too large or too slow")
    return _object(content)


def as_kind(told: dict[str, Any], kind: str) -> dict[str, Any]:
    """The answer, if it is of that kind.

    What stands before an API server may answer with JSON of its own. An empty answer must not be read as
    the absence of a Job.

    Raises:
        ValueError: it is not.
    """
    if told.get("kind") != kind:
        raise ValueError(f"not a {kind}")
    return told


def as_job(told: dict[str, Any]) -> Job:
    """The answer as one Job.

    Raises:
        ValueError: it is none.
    """
    if not is_well_formed(as_kind(told, "Job")):
        raise ValueError("not a whole Job")
    return told


def as_list(told: dict[str, Any], kind: str) -> tuple[list[Job], str]:
    """The answer as a list of Jobs or pods, and the version of it.

    Raises:
        ValueError: it is none.
    """
    metadata, found = as_kind(told, kind).get("metadata"), told.get("items")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    found = [] if found is None else found
    if not isinstance(version, str) or not isinstance(found, list) or not all(map(is_well_formed, found)):
        raise ValueError(f"not a whole {kind}")
    return found, version


def is_well_formed(each: Any) -> bool:
    """Whether a Job or pod has its parts where they are looked for; the API server is another party's."""
    try:
        metadata, status = each["metadata"], each.get("status") or {}
        named = isinstance(metadata["name"], str) and isinstance(metadata["uid"], str)
        parts = list(status.get("conditions") or [])
        for container in status.get("containerStatuses") or []:
            state = container.get("state") or {}
            parts += [state.get(kind) or {} for kind in ("waiting", "terminated")]
    except (AttributeError, LookupError, TypeError):
        return False
    return named and all(isinstance(part, dict) for part in parts)


def events(answer: BaseHTTPResponse) -> Iterator[Mapping[str, Any]]:
    """Whole lines of a watch as events; the rest of a line that was cut is dropped."""
    rest = bytearray()
    while part := answer.read1(1 << 16):
        rest += part
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if line.strip():
                yield _object(line)
        if len(rest) > _LARGEST_ANSWER:
            raise ValueError("an event is too large")


def _object(content: bytes | bytearray) -> dict[str, Any]:
    try:
        told = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(told, dict):
        raise ValueError("not an object")  # noqa: TRY004 - what came is at fault, not a caller
    return told
