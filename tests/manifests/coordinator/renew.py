"""Writes the example of the overlays anew: `python -m tests.manifests.coordinator.renew`.

The file is a copy of the shipped federation's, the charter keeps its public keys and takes the file's
terms, and the objects are compiled from the file.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from components.agreement.charter import Charter, read_charter
from components.artifacts.documents import digest
from components.rounds.round_opening.opening import genesis
from pipelines.charter_comparison import shape, terms
from pipelines.compile import compile_round
from pipelines.federation import Federation, load_federation
from pipelines.kubernetes_manifests import compile_objects
from tests.manifests.coordinator.shipped_overlays import MANIFESTS

SOURCE = Path("manifests/federations/complaints-bigquery.yaml")
FEDERATION = MANIFESTS / "base" / "federation.yaml"
CHARTER = MANIFESTS / "base" / "charter.json"
OBJECTS = MANIFESTS / "overlays" / "kubernetes-native" / "complaints-round-objects.yaml"
COMMAND = "python -m tests.manifests.coordinator.renew"


def with_terms(charter: Charter, federation: Federation) -> Charter:
    """The charter with its parties and the terms that a federation file asks for."""
    return replace(charter, **terms(federation), genesis=digest(genesis(shape(federation))))


def compiled(federation: Federation, folder: Path) -> bytes:
    """The two objects of a federation's round."""
    spec = compile_round(federation, folder / "round.yaml")
    return compile_objects(federation, spec, folder / "objects.yaml").read_bytes()


def main() -> None:
    """Takes what the code says now."""
    FEDERATION.write_bytes(SOURCE.read_bytes())
    federation = load_federation(FEDERATION)
    CHARTER.write_bytes(with_terms(read_charter(CHARTER.read_bytes()), federation).to_json())
    with tempfile.TemporaryDirectory() as folder:
        OBJECTS.write_bytes(compiled(federation, Path(folder)))


if __name__ == "__main__":
    main()
