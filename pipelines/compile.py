"""Compiles a federation to the pipeline spec that Kubeflow and the local runner execute."""

from __future__ import annotations

import tempfile
from pathlib import Path

from components.errors import UsageError
from pipelines.federation import Federation


def compile_round(federation: Federation, target: Path) -> Path:
    """Writes the spec of one round to `target`; the same federation gives the same bytes.

    Raises:
        UsageError: the target cannot be written.
    """
    from kfp import compiler

    from pipelines.federated_round import federated_round

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".compile-") as folder:
            draft = Path(folder) / "round.yaml"
            compiler.Compiler().compile(federated_round(federation), str(draft))
            draft.replace(target)
    except OSError as error:
        raise UsageError(f"the spec cannot be written to {target}: {error.strerror}") from None
    return target
