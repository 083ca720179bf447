"""What the server makes of an uploaded spec, and of parameters and times given with it."""

from __future__ import annotations

import re
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.pipelines.kubeflow.pipelines_api.refusals import invalid

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KINDS: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
}
_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_NAMES = set(re.findall("...", "sunmontuewedthufrisatjanfebmaraprmayjunjulaugsepoctnovdec"))


def read_spec(content: bytes) -> dict[str, Any]:
    """The documents of a spec, if they are what the launcher can run."""
    try:
        documents = [each for each in yaml.load_all(content, Loader=_LOADER) if each]
        spec = json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
        for each in documents[1:]:
            json_format.ParseDict(each, pipeline_spec_pb2.PlatformSpec())
    except (yaml.YAMLError, json_format.ParseError, IndexError, TypeError) as error:
        raise invalid(f"invalid v2 pipeline spec: {error}") from None
    if not spec.pipeline_info.name or not spec.root.dag.tasks:
        raise invalid("invalid v2 pipeline spec: name or root component is empty")
    return {"pipeline_spec": documents[0], "platform_spec": documents[1] if documents[1:] else {}}


def require_parameters(spec: dict[str, Any], given: dict[str, Any]) -> None:
    """Passes parameters that the root takes and that have its types."""
    known = spec["pipeline_spec"]["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, value in given.items():
        if name not in known:
            raise invalid(f"parameter {name} is not found in pipeline job input definitions")
        kind = known[name]["parameterType"]
        if kind in _KINDS and (
            not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "BOOLEAN")
        ):
            raise invalid(f"input parameter {name} requires type {kind}, got {value!r}")


def require_cron(text: str) -> None:
    """Passes what robfig/cron 1 parses: five fields lack the day of the week, not the second."""
    fields = text.split()
    if len(fields) not in {5, 6}:
        raise invalid(f"Schedule cron is not supported ({text}): expected 5 or 6 fields, found {len(fields)}")
    for field, (least, most) in zip(fields, _BOUNDS, strict=False):
        for item in field.lower().split(","):
            numbers = [n for n in re.split(r"[-/]", item) if n not in {"*", "?"} and n not in _NAMES]
            step = numbers.pop() if "/" in item and numbers else "1"
            if not all(n.isdigit() and least <= int(n) <= most for n in numbers) or not int(step):
                raise invalid(f"Schedule cron is not supported ({text}): {item} is out of range")
