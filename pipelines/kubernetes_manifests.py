"""A compiled round as objects of Kubernetes, for clusters whose pipelines are kept in git.

A `PipelineVersion` cannot be changed once it is there, so its name says what is in it.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from components.errors import UsageError
from pipelines.federation import Federation

NAME_DIGITS = 12
"""Hex digits of the spec's SHA-256 in a version's name: two specs of one federation share them by
chance once in 2^48."""


def compile_objects(federation: Federation, spec: Path, target: Path) -> Path:
    """Writes the `Pipeline` and the `PipelineVersion` of one round; the same federation gives the same bytes.

    Args:
        federation: that `spec` was compiled from.
        spec: the compiled round, whose content names the version.
        target: where the two objects go, as one YAML stream without a namespace.

    Raises:
        UsageError: the target cannot be written.
    """
    from kfp import compiler
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    from pipelines.federated_round import federated_round

    pipeline = federated_round(federation)
    name = version_name(federation, spec)
    options = KubernetesManifestOptions(
        pipeline_name=pipeline_name(federation),
        pipeline_display_name=f"{federation.title}: one round",
        pipeline_version_name=name,
        pipeline_version_display_name=name,
        include_pipeline_manifest=True,
    )
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".objects-") as folder:
            draft = Path(folder) / "objects.yaml"
            compiler.Compiler().compile(
                pipeline,
                str(draft),
                kubernetes_manifest_options=options,
                kubernetes_manifest_format=True,
            )
            draft.replace(target)
    except OSError as error:
        raise UsageError(f"the objects cannot be written to {target}: {error.strerror}") from None
    return target


def pipeline_name(federation: Federation) -> str:
    """Name of the `Pipeline` that the rounds of a federation are versions of."""
    return f"{federation.federation}-round"


def version_name(federation: Federation, spec: Path) -> str:
    """Name of the version with this content: the pipeline's and the first digits of the spec's SHA-256."""
    content = hashlib.sha256(spec.read_bytes()).hexdigest()
    return f"{pipeline_name(federation)}-{content[:NAME_DIGITS]}"
