"""What `crosscloud verify` says of the proof of a round's sealed counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.rounds.verification import verify_state
from tests.components.evaluation.count_commitment.counted_sites import (
    COUNTED,
    CountedSites,
    start,
    with_metrics,
)
from tests.components.evaluation.count_commitment.test_reported import reported

PROOF = "rounds/00001/metrics"


def finished(**terms: Any) -> CountedSites:
    counted = with_metrics(start(**terms))
    reported(counted, counted.opened())
    return counted


def problems(counted: CountedSites) -> tuple[str, ...]:
    return verify_state(counted.round.state_uri, keys_uri=counted.round.keys_uri).problems


def state_folder(counted: CountedSites) -> Path:
    return counted.round.exchange_folder.parent / "state"


@pytest.mark.parametrize("protection", ["sealed", "masked", "smc"])
def test_what_the_parties_have_signed_is_in_order(protection: str) -> None:
    counted = finished(protection=protection)
    kept = {path.name for path in (state_folder(counted) / PROOF).iterdir()}
    assert {"ticket.json", "roster.json", "cutoff.json", "receipt.json", "aggregate.safetensors"} <= kept
    assert problems(counted) == ()


def test_noisy_counts_are_in_order() -> None:
    assert problems(finished(privacy=COUNTED)) == ()


def test_a_round_without_metrics_needs_no_proof_of_them() -> None:
    counted = finished()
    shutil.rmtree(state_folder(counted) / PROOF)
    assert problems(counted) == ()


def _other_counts(folder: Path) -> None:
    path = folder / "aggregate.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def _another_receipt(folder: Path) -> None:
    (folder / "receipt.json").write_bytes((folder.parent / "proof/receipt.json").read_bytes())


def _another_ticket(folder: Path) -> None:
    (folder / "ticket.json").write_bytes((folder.parent / "proof/ticket.json").read_bytes())


def _a_member_less(folder: Path) -> None:
    document = json.loads((folder / "cutoff.json").read_bytes())
    shown = json.dumps(document)
    assert "alpha" in shown
    (folder / "cutoff.json").write_text(shown.replace("alpha", "gamma"))


def _the_updates_manifest(folder: Path) -> None:
    (folder / "sealed/alpha.json").write_bytes((folder.parent / "proof/sealed/alpha.json").read_bytes())


def _no_release(folder: Path) -> None:
    (folder / "released/beta.json").unlink()


@pytest.mark.parametrize(
    ("tamper", "where"),
    [
        (_other_counts, "counts: "),
        (_another_receipt, "receipt: "),
        (_another_ticket, "ticket: is for update of round 1"),
        (_a_member_less, "receipt: was given for another set of sites"),
        (_the_updates_manifest, "manifest of alpha: "),
        (_no_release, "release of beta: "),
    ],
)
def test_what_was_altered_is_found(tamper: Callable[[Path], None], where: str) -> None:
    counted = finished()
    tamper(state_folder(counted) / PROOF)
    found = problems(counted)
    assert any(problem.startswith(f"metrics of round 1: {where}") for problem in found), found
    assert all(problem.startswith("metrics of round 1: ") for problem in found)
