"""The overlays that are shipped, and the schemas of what Kubernetes itself has none for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

MANIFESTS = Path("manifests/coordinator")
OVERLAYS = ("standalone", "multi-user", "kubernetes-native")
NAMESPACES = {"standalone": "kubeflow", "multi-user": "crosscloud", "kubernetes-native": "kubeflow"}

Manifest = dict[str, Any]
Overlay = Callable[[str], list[Manifest]]
"""Builds an overlay by name."""

_TEXT = {"type": "string", "minLength": 1}


def _schema(group: str, kind: str, spec: dict[str, Any], *, namespaced: bool) -> dict[str, Any]:
    metadata = ["name", "namespace"] if namespaced else ["name"]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": group},
            "kind": {"const": kind},
            "metadata": {
                "type": "object",
                "additionalProperties": False,
                "required": metadata,
                "properties": dict.fromkeys(metadata, _TEXT)
                | {"annotations": {"additionalProperties": _TEXT}},
            },
            "spec": {"type": "object", "additionalProperties": False, **spec},
        },
    }


# Written by hand after the CustomResourceDefinitions of kubeflow/pipelines (manifests/kustomize/base/crds)
# and kubeflow/dashboard (profile-controller/config/crd/bases), with every unknown field refused.
SCHEMAS = {
    "Pipeline": _schema(
        "pipelines.kubeflow.org/v2beta1",
        "Pipeline",
        {"properties": {"description": _TEXT, "displayName": _TEXT}},
        namespaced=True,
    ),
    "PipelineVersion": _schema(
        "pipelines.kubeflow.org/v2beta1",
        "PipelineVersion",
        {
            "required": ["pipelineName", "pipelineSpec"],
            "properties": {
                "description": _TEXT,
                "displayName": _TEXT,
                "pipelineName": _TEXT,
                "pipelineSpec": {"type": "object"},
                "platformSpec": {"type": "object"},
            },
        },
        namespaced=True,
    ),
    "Profile": _schema(
        "kubeflow.org/v1",
        "Profile",
        {
            "required": ["owner"],
            "properties": {
                "owner": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["kind", "name"],
                    "properties": {"kind": {"enum": ["User", "ServiceAccount"]}, "name": _TEXT},
                }
            },
        },
        namespaced=False,
    ),
}


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Those of one kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]
