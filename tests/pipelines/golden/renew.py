"""Writes the golden specs anew: `python -m tests.pipelines.golden.renew`."""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from components.agreement.methods import METHODS
from components.evaluation.method_measurement.configurations import Scope
from pipelines.compile import compile_comparison, compile_round
from pipelines.federation import load_federation

HERE = Path(__file__).parent
FEDERATIONS = ("quickstart", "complaints-bigquery", "three-clusters")
KEPT = "ours"
"""The method whose specs are kept whole; of the others there are digests."""
DIGESTS = HERE / "digests.json"


class Compiled(Mapping[tuple[str, str], Path]):
    """Every shipped federation under every method, by the name of its file and the method.

    Each is compiled when it is first asked for.
    """

    def __init__(self, folder: Path) -> None:
        """Writes into `folder`."""
        self._folder = folder
        self._found: dict[tuple[str, str], Path] = {}

    def __getitem__(self, key: tuple[str, str]) -> Path:
        name, method = key
        if key not in self._found:
            federation = load_federation(Path(f"manifests/federations/{name}.yaml"))
            target = self._folder / f"{name}-{method}.yaml"
            self._found[key] = compile_round(federation.with_method(method), target)
        return self._found[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return itertools.product(FEDERATIONS, METHODS)

    def __len__(self) -> int:
        return len(FEDERATIONS) * len(METHODS)


def kept(name: str) -> Path:
    """The golden spec of a federation."""
    return HERE / f"{name}-{KEPT}.yaml"


COMPARISON = HERE / "quickstart-comparison.yaml"
"""The golden spec of a reduced comparison: every kind of task that there is."""


def compiled_comparison(folder: Path) -> Path:
    """What the quick start's reduced comparison compiles to now."""
    federation = load_federation(Path("manifests/federations/quickstart.yaml"))
    return compile_comparison(federation, Scope(quick=True, seeds=(1,)), folder / COMPARISON.name)


def digest(spec: Path) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(spec.read_bytes()).hexdigest()


def main() -> None:
    """Takes what is compiled now as golden."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = Compiled(Path(folder))
        for name in FEDERATIONS:
            kept(name).write_bytes(compiled[name, KEPT].read_bytes())
        digests = {
            f"{name}-{method}": digest(spec) for (name, method), spec in compiled.items() if method != KEPT
        }
        COMPARISON.write_bytes(compiled_comparison(Path(folder)).read_bytes())
        DIGESTS.write_text(json.dumps(digests, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
