"""All that is checked of a compiled spec."""

from __future__ import annotations

from pathlib import Path

from components.errors import UsageError
from pipelines.spec_check.artifact_flow import check_artifact_flow
from pipelines.spec_check.container_policy import check_containers
from pipelines.spec_check.documents import Document, read_documents
from pipelines.spec_check.findings import Finding
from pipelines.spec_check.graph_outputs import check_graph_outputs, check_loops, check_placeholders
from pipelines.spec_check.placement_policy import check_placement
from pipelines.spec_check.reading import read_spec
from pipelines.spec_check.references import check_references
from pipelines.spec_check.secret_policy import check_secrets
from pipelines.spec_check.spec import Spec
from pipelines.spec_check.steps import steps
from pipelines.spec_check.wiring import check_wiring

_ENDLESS = frozenset({"task-cycle", "component-recursive"})


def examine_file(path: Path) -> list[Finding]:
    """What is wrong with a compiled spec, by line.

    Raises:
        UsageError: the file cannot be read, is not YAML, or is no compiled spec.
    """
    return examine(read_documents(path), file=str(path))


def examine(documents: list[Document], *, file: str) -> list[Finding]:
    """As `examine_file`, of documents that are read already.

    Raises:
        UsageError: they are no compiled spec.
    """
    spec, found = read_spec(documents, file)
    if spec is not None:
        try:
            found += _examined(spec)
        except RecursionError:
            raise UsageError(f"{file} is not a compiled spec: its graphs are nested too deeply") from None
    once = {(each.rule, each.message, each.location): each for each in found}
    return sorted(once.values(), key=lambda each: (each.location.line, each.rule, each.message))


def _examined(spec: Spec) -> list[Finding]:
    references = list(check_references(spec))
    all_steps = steps(spec)
    found = [
        *references,
        *check_wiring(spec),
        *check_graph_outputs(spec),
        *check_loops(spec),
        *check_placeholders(spec),
        *check_containers(spec, all_steps),
        *check_secrets(spec, all_steps),
        *check_placement(spec, all_steps),
    ]
    if not _ENDLESS & {each.rule for each in references}:
        found += check_artifact_flow(spec, all_steps)
    return found
