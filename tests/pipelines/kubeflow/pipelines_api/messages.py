"""Holds request bodies to the API's own messages: what is no field of one is refused."""

from __future__ import annotations

import re
from typing import Any

import kfp_server_api

from tests.pipelines.kubeflow.pipelines_api.refusals import invalid


def require_message(body: Any, kind: str) -> dict[str, Any]:
    """The body, if it is a message of this kind, such as `V2beta1Run`."""
    _hold(body, kind, kind)
    checked: dict[str, Any] = body
    return checked


def _hold(value: Any, kind: str, path: str) -> None:
    if value is None or kind == "object":
        return
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            raise invalid(f"{path}: expected a list")
        for each in value:
            _hold(each, inner[1], path)
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        if not isinstance(value, dict):
            raise invalid(f"{path}: expected an object")
        for key, each in value.items():
            _hold(each, inner[1], f"{path}.{key}")
    elif kind in {"str", "datetime"}:
        # A 64-bit number is told as text, and read from either.
        if not isinstance(value, str) and (isinstance(value, bool) or not isinstance(value, int)):
            raise invalid(f"{path}: expected a string")
    elif kind in {"bool", "int", "float"}:
        if not isinstance(value, {"bool": bool, "int": int, "float": float}[kind]):
            raise invalid(f"{path}: expected {kind}")
    else:
        _hold_model(value, getattr(kfp_server_api.models, kind), path)


def _hold_model(value: Any, model: Any, path: str) -> None:
    if not model.openapi_types:
        if value not in model.allowable_values:
            raise invalid(f"{path}: {value!r} is none of {', '.join(model.allowable_values)}")
        return
    if not isinstance(value, dict):
        raise invalid(f"{path}: expected an object")
    types = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    for key, each in value.items():
        if key not in types:
            raise invalid(f'proto: unknown field "{key}" in {path}')
        _hold(each, types[key], f"{path}.{key}")
