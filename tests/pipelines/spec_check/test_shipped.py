"""What is shipped compiles to what was reviewed, and breaks no rule."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import pytest

from components.agreement.methods import METHODS
from pipelines.spec_check.examination import examine_file
from tests.pipelines.golden.renew import DIGESTS, FEDERATIONS, KEPT, digest, kept
from tests.pipelines.spec_check.specs import Shipped

RENEW = "make golden"
ALL = [(name, method) for name in FEDERATIONS for method in METHODS]


def test_every_shipped_federation_is_here() -> None:
    files = {path.stem for path in Path("manifests/federations").glob("*.yaml")}
    assert files == set(FEDERATIONS)


@pytest.mark.parametrize(("name", "method"), ALL)
def test_no_shipped_spec_has_a_finding(shipped: Shipped, name: str, method: str) -> None:
    assert examine_file(shipped[name, method]) == []


@pytest.mark.parametrize("name", FEDERATIONS)
def test_it_compiles_to_the_golden_spec(shipped: Shipped, name: str) -> None:
    golden, compiled = kept(name).read_bytes(), shipped[name, KEPT].read_bytes()
    if golden != compiled:
        changes = difflib.unified_diff(
            golden.decode().splitlines(),
            compiled.decode().splitlines(),
            "golden",
            "compiled",
            lineterm="",
            n=1,
        )
        told = "\n".join(list(changes)[:40])
        pytest.fail(f"{kept(name)} is not what is compiled now; if it should be, type {RENEW}\n{told}")


@pytest.mark.parametrize(("name", "method"), [each for each in ALL if each[1] != KEPT])
def test_it_compiles_to_the_golden_digest(shipped: Shipped, name: str, method: str) -> None:
    golden = json.loads(DIGESTS.read_text())
    assert golden[f"{name}-{method}"] == digest(shipped[name, method]), f"if it should be so, type {RENEW}"


def test_no_digest_is_left_over() -> None:
    assert set(json.loads(DIGESTS.read_text())) == {
        f"{name}-{method}" for name, method in ALL if method != KEPT
    }
