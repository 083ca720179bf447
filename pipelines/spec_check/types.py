"""Types of parameters and artifacts, and whether what is given has them."""

from __future__ import annotations

import json
from typing import Any

from pipelines.spec_check.secret_forms import secret_form
from pipelines.spec_check.spec import Message

_KINDS = {
    "STRING": ("string_value",),
    "BOOLEAN": ("bool_value",),
    "LIST": ("list_value",),
    "STRUCT": ("struct_value",),
    "NUMBER_DOUBLE": ("number_value",),
    "NUMBER_INTEGER": ("number_value",),
}
_ANY_ARTIFACT = "system.Artifact"


def parameter_type(definition: Message) -> str:
    """Name of a parameter's type; empty where the spec leaves it open."""
    from kfp.pipeline_spec import pipeline_spec_pb2

    number = definition.parameter_type
    if not number:
        return ""
    enum = pipeline_spec_pb2.ParameterType.ParameterTypeEnum
    return str(enum.Name(number)) if number in enum.values() else str(number)


def fits_constant(value: Message, wanted: str) -> bool:
    """Whether a constant, as the spec writes it, is of a parameter's type."""
    kinds = _KINDS.get(wanted)
    kind = value.WhichOneof("kind")
    if kinds is None or kind is None:
        return True
    if kind not in kinds:
        return False
    return wanted != "NUMBER_INTEGER" or float(value.number_value).is_integer()


def fits_artifact(given: Message, wanted: Message) -> bool:
    """Whether an artifact may stand where another is asked for."""
    if given.is_artifact_list != wanted.is_artifact_list:
        return False
    titles = {given.artifact_type.schema_title, wanted.artifact_type.schema_title}
    return len(titles - {"", _ANY_ARTIFACT}) < 2


def told_value(value: Message) -> str:
    """A constant in a message, cut short; a secret that is cut short would no longer look like one."""
    from google.protobuf import json_format

    text = json.dumps(json_format.MessageToDict(value), ensure_ascii=False)
    form = secret_form(text)
    if form:
        return f"what looks like {form}"
    return text if len(text) <= 60 else text[:57] + "…"


def texts(value: Any) -> list[str]:
    """Every string in a value, keys included."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, dict):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            waiting += each
    return found
