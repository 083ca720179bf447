"""Reads what an endpoint answers: the API's own objects and errors, and what is neither."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pipelines.kubeflow.refusals import (
    ConflictError,
    EndpointDeniedError,
    EndpointError,
    EndpointUnreachableError,
    ForeignEndpointError,
    MissingError,
    RefusedRequestError,
)
from pipelines.spec_check.findings import one_line

_BUSY = {429, 502, 503, 504}
_LONGEST = 300
_LOGIN = "a login page stands before it: name a file that holds a token for it with --token-file"
_PATH = (
    "see that --endpoint has the path the API is under; within Kubeflow's own gateway it ends with /pipeline"
)


def object_in(place: str, content: bytes) -> dict[str, Any]:
    """The JSON object of an answer that says that all is well.

    Raises:
        ForeignEndpointError: it holds none.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    if _is_page(content):
        raise ForeignEndpointError(f"{place} answers with a web page where JSON was asked for: {_LOGIN}")
    raise ForeignEndpointError(f"{place} answers with something that is no JSON object: {_PATH}")


def refusal(place: str, status: int, content: bytes, headers: Mapping[str, str]) -> EndpointError:
    """An answer that says that something is not well, as the error it is."""
    if 300 <= status < 400:
        target = headers.get("Location", "")
        host = one_line(urlsplit(target).hostname or "another page of it")
        return ForeignEndpointError(f"{place} sends us to {host}: {_LOGIN}")
    told = _told(content)
    if status == 401:
        return EndpointDeniedError(
            f"{place} does not know us (401): name a file that holds a token for it, one that has not "
            "expired, with --token-file"
        )
    if status == 403:
        return EndpointDeniedError(
            f"{place} refuses this to us (403{told and f': {told}'}): ask its administrator for the right, "
            "or name another --namespace or --token-file"
        )
    if status in _BUSY:
        return EndpointUnreachableError(
            f"{place} cannot answer now ({status}{told and f': {told}'}): ask again later"
        )
    if status == 404 and (not told or told == "Not Found"):
        # The API says what it has not found; where nobody says anything the API itself is not there.
        other = " or only an API before v2beta1, and Kubeflow Pipelines 2 is needed" if told else ""
        return ForeignEndpointError(f"{place} has no Kubeflow Pipelines API{other} (404): {_PATH}")
    kind = {404: MissingError, 409: ConflictError}.get(status, RefusedRequestError)
    return kind(f"{place} refuses the request ({status}): {told or 'without a word'}")


def _told(content: bytes) -> str:
    """What the API says of its error, in one short line; empty if that is not the API."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    for name in ("error_message", "message", "error"):
        text = found.get(name)
        if isinstance(text, str) and text.strip():
            line = one_line(" ".join(text.split()))
            return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
    return ""


def _is_page(content: bytes) -> bool:
    return content.lstrip()[:200].lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))
