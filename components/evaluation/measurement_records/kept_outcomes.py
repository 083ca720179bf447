"""Outcomes that are kept by what they follow from, so that nothing is measured twice.

The name of an outcome is a digest of its configuration, of the corpus, of the source files that compute, and
of the versions of what computes for them. A change in any of these is another measurement; a killed
comparison finds what it has finished, wherever it is taken up again.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from components.artifacts.documents import canonical_json, digest
from components.artifacts.stores import Store, key_of, open_store
from components.errors import IntegrityError, ObjectExistsError, ObjectMissingError

COMPUTING: Final = (
    "agreement",
    "encryption",
    "evaluation/attacks",
    "evaluation/method_measurement",
    "evaluation/rehearsal",
    "privacy",
    "training",
)
"""Folders of `components` whose source files decide what a measurement yields."""
_WRAPPERS: Final = ("component.py", "step.py")
_LIBRARIES: Final = ("numpy", "torch", "tenseal")
_COMPONENTS = Path(__file__).resolve().parents[2]
Record = dict[str, Any]


@functools.cache
def code_digest() -> str:
    """SHA-256 of the source files in `COMPUTING` and of the versions of the libraries that they call."""
    return digest(canonical_json({"sources": source_digest(COMPUTING), "versions": versions(_LIBRARIES)}))


def source_digest(folders: Sequence[str]) -> str:
    """SHA-256 of what the source files below folders of `components` say, by their paths.

    Comments, docstrings and layout do not count, and neither do a `component.py` and a `step.py`, which
    compute nothing.
    """
    files = sorted(path for folder in folders for path in (_COMPONENTS / folder).rglob("*.py"))
    sources = {
        path.relative_to(_COMPONENTS).as_posix(): _said(path.read_text(encoding="utf-8"))
        for path in files
        if path.name not in _WRAPPERS
    }
    return digest(canonical_json(sources))


def _said(source: str) -> str:
    """The source as a syntax tree without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions by package, without importing it; empty for one that is not installed."""
    found = dict.fromkeys(packages, "")
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


class KeptOutcomes:
    """Records of finished measurements of one corpus in a store."""

    def __init__(self, store: Store, corpus_digest: str) -> None:
        """Reads and writes below `outcomes/` in `store`."""
        self._store, self._corpus_digest = store, corpus_digest

    def key(self, configuration: Mapping[str, Any]) -> str:
        """Where the outcome of a configuration lies."""
        identity = {
            "configuration": dict(configuration),
            "corpus": self._corpus_digest,
            "code": code_digest(),
        }
        return f"outcomes/{digest(canonical_json(identity))}.json"

    def find(self, configuration: Mapping[str, Any]) -> Record | None:
        """The record of a configuration; None where it has not been measured.

        Raises:
            IntegrityError: what lies there is no such record.
            StoreError: the store cannot be read.
        """
        key = self.key(configuration)
        try:
            content = self._store.read(key)
        except ObjectMissingError:
            return None
        try:
            record: Record = json.loads(content)
            if record["configuration"] == dict(configuration) and isinstance(record["outcome"], dict):
                return record
        except (ValueError, KeyError, TypeError):
            pass
        raise IntegrityError(f"{self._store.uri}/{key} is no outcome of its configuration: remove it")

    def keep(self, configuration: Mapping[str, Any], outcome: Mapping[str, Any], *, seconds: float) -> Record:
        """Writes a record, whole or not at all; if somebody was first, theirs stays and is returned.

        Args:
            configuration: what was measured.
            outcome: what came of it: JSON values, numbers finite.
            seconds: processor seconds or wall seconds that it took.

        Raises:
            StoreError: the store cannot be written.
        """
        record = {
            "configuration": dict(configuration),
            "outcome": dict(outcome),
            "seconds": round(seconds, 3),
        }
        content = json.dumps(record, allow_nan=False, sort_keys=True).encode()
        try:
            self._store.create(self.key(configuration), content)
        except ObjectExistsError:
            return self.find(configuration) or record
        found: Record = json.loads(content)
        return found


def records_at(references: Mapping[str, str], store_uri: str) -> list[Record]:
    """The records that references name, in the order of their names.

    Raises:
        RefusedError: a reference lies in another store.
        ObjectMissingError: there is nothing.
    """
    store = open_store(store_uri)
    found: list[Record] = []
    for name in sorted(references):
        found += json.loads(store.read(key_of(store, references[name])))
    return found
