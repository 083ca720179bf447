"""Compiles a federation to the pipeline spec that Kubeflow and the local runner execute."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import UsageError
from pipelines.federation import Federation

if TYPE_CHECKING:
    from kfp.dsl import base_component

    from components.evaluation.method_measurement.configurations import Scope


def compile_round(federation: Federation, target: Path) -> Path:
    """Writes the spec of one round to `target`; the same federation gives the same bytes.

    Raises:
        UsageError: the target cannot be written.
    """
    from pipelines.federated_round import federated_round

    return _compiled(federated_round(federation), target)


def compile_comparison(federation: Federation, scope: Scope, target: Path) -> Path:
    """Writes the spec of a comparison of methods to `target`; the same arguments give the same bytes.

    Raises:
        UsageError: the target cannot be written, or a task would be given too much.
    """
    from pipelines.baseline_comparison.pipeline import baseline_comparison

    return _compiled(baseline_comparison(federation, scope), target)


def _compiled(pipeline: base_component.BaseComponent, target: Path) -> Path:
    from kfp import compiler

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".compile-") as folder:
            draft = Path(folder) / "pipeline.yaml"
            compiler.Compiler().compile(pipeline, str(draft))
            draft.replace(target)
    except OSError as error:
        raise UsageError(f"the spec cannot be written to {target}: {error.strerror}") from None
    return target
