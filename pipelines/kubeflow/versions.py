"""The versions of a federation's pipeline at an endpoint, each named by the content of its spec."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import UsageError
from pipelines.federation import Federation
from pipelines.kubeflow.connection import Endpoint, equals, required
from pipelines.kubeflow.refusals import ConflictError, EndpointError, MissingError
from pipelines.kubernetes_manifests import pipeline_name, version_name

_DIGEST = "spec sha256:"


@dataclass(frozen=True, kw_only=True)
class Version:
    """A compiled spec that an endpoint holds.

    Attributes:
        pipeline_id: of its pipeline.
        version_id: its own.
        name: which says what is in it.
        uploaded: whether it was uploaded just now.
    """

    pipeline_id: str
    version_id: str
    name: str
    uploaded: bool = False


def publish(endpoint: Endpoint, federation: Federation, spec: Path) -> Version:
    """Uploads a compiled spec as a version of the federation's pipeline, unless it is there.

    Several may publish at once: one makes the pipeline and one the version, the others find them.

    Raises:
        UsageError: it cannot be published.
    """
    pipeline_id = find_pipeline(endpoint, federation) or _create_pipeline(endpoint, federation)
    name = version_name(federation, spec)
    digest = hashlib.sha256(spec.read_bytes()).hexdigest()
    found = _find_version(endpoint, pipeline_id, name, digest)
    if found:
        return found
    try:
        made = endpoint.ask(
            lambda: endpoint.client.upload_pipeline_version(
                pipeline_package_path=str(spec),
                pipeline_version_name=name,
                pipeline_id=pipeline_id,
                description=f"{_DIGEST}{digest}",
            )
        )
    except EndpointError:
        # Another submitter was first, or the answer was lost on its way: not all servers say which.
        found = _find_version(endpoint, pipeline_id, name, digest)
        if found:
            return found
        raise
    return Version(
        pipeline_id=pipeline_id,
        version_id=required(made, "pipeline_version_id"),
        name=name,
        uploaded=True,
    )


def find_pipeline(endpoint: Endpoint, federation: Federation) -> str | None:
    """Id of the pipeline whose versions are the rounds of a federation; None before the first.

    Raises:
        EndpointError: it cannot be asked for.
    """
    terms = {"namespace": endpoint.namespace} if endpoint.namespace else {}
    try:
        found = endpoint.ask(
            lambda: endpoint.client.pipelines.pipeline_service_get_pipeline_by_name(
                pipeline_name(federation), **terms
            )
        )
    except MissingError:
        return None
    return required(found, "pipeline_id")


def _create_pipeline(endpoint: Endpoint, federation: Federation) -> str:
    """By itself: an upload that makes a pipeline gives its first version the pipeline's name."""
    from kfp_server_api import V2beta1Pipeline

    name = pipeline_name(federation)
    body = V2beta1Pipeline(
        name=name,
        display_name=name,
        description=f"{federation.title}: one round a run.",
        namespace=endpoint.namespace or None,
    )
    try:
        made: Any = endpoint.ask(
            lambda: endpoint.client.pipelines.pipeline_service_create_pipeline(pipeline=body)
        )
    except ConflictError:
        found = find_pipeline(endpoint, federation)
        if found is None:
            raise
        return found
    return required(made, "pipeline_id")


def _find_version(endpoint: Endpoint, pipeline_id: str, name: str, digest: str) -> Version | None:
    versions = endpoint.pages(
        endpoint.client.list_pipeline_versions,
        "pipeline_versions",
        pipeline_id=pipeline_id,
        filter=equals(display_name=name),
    )
    for each in versions:
        # Servers before 2.5 have the display name only.
        if name not in {each.name, each.display_name}:
            continue
        told = (each.description or "").removeprefix(_DIGEST)
        if each.description and each.description.startswith(_DIGEST) and told != digest:
            raise UsageError(
                f"version {name} at {endpoint.address.url} was made of another spec (sha256 {told[:12]}…) "
                f"than this ({digest[:12]}…): delete it there"
            )
        version_id = required(each, "pipeline_version_id")
        return Version(pipeline_id=pipeline_id, version_id=version_id, name=name)
    return None
