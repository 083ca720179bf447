"""What is copied beside a commit, and the copies read as if they lay in the exchange."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from components.agreement.released import read_release
from components.agreement.sealed_manifest import manifest_key, read_manifest
from components.artifacts.documents import digest
from components.artifacts.stores import open_store
from components.errors import ObjectMissingError, ObjectTooLargeError, StoreError
from components.rounds.proof import ProofStore
from tests.components.aggregation.three_sites import ThreeSites


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    """A round under `sealed`, with things in the exchange that are nobody's business."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    federation = ThreeSites.start(protection="sealed")
    for part in ("commitments", "sealed", "released"):
        federation.exchange.create(f"rounds/00001-1/{part}/mallory.json", b"{}")
    federation.committed()
    return federation


def test_the_proof_is_what_the_round_rests_on_and_nothing_else(committed: ThreeSites) -> None:
    state = open_store(committed.state_uri)
    names = {key.removeprefix("rounds/00001/proof/") for key in state.keys("rounds/00001/proof")}
    by_site = {
        f"{part}/{site}.json" for part in ("commitments", "sealed", "released") for site in committed.sites
    }
    single = {"ticket.json", "roster.json", "cutoff.json", "receipt.json"}
    assert names == single | by_site | {"aggregate.safetensors", "genesis.safetensors"}
    for name in single | by_site:
        copied = state.read(f"rounds/00001/proof/{name}")
        assert copied == committed.exchange.read(f"rounds/00001-1/{name}")
    genesis = state.read("rounds/00001/proof/genesis.safetensors")
    assert digest(genesis) == committed.charter.genesis


def test_only_the_first_round_keeps_the_genesis(committed: ThreeSites) -> None:
    committed.next_round().committed()
    assert not open_store(committed.state_uri).exists("rounds/00002/proof/genesis.safetensors")


def test_documents_are_read_from_it_as_from_the_exchange(committed: ThreeSites) -> None:
    attempt = committed.attempt()
    ticket, charter = attempt.ticket, attempt.charter
    proof = ProofStore(open_store(committed.state_uri), ticket)
    roster = attempt.roster()
    cutoff = attempt.cutoff(roster)
    certified = attempt.certificate()
    assert certified
    for site in committed.sites:
        kept, exchanged = (
            (
                read_manifest(store, ticket, roster, site, charter=charter, certificate=certified.digest),
                read_release(store, ticket, cutoff, site, charter),
            )
            for store in (proof, committed.exchange)
        )
        assert kept == exchanged
    key = manifest_key(ticket, "alpha")
    assert proof.exists(key)
    assert proof.size(key) == len(proof.read(key))
    with proof.open(key) as source:
        assert source.read() == committed.exchange.read(key)
    assert proof.keys(f"{ticket.folder}/sealed") == [manifest_key(ticket, site) for site in committed.sites]
    with pytest.raises(ObjectTooLargeError):
        proof.read(key, limit=100)


def test_it_is_read_only_and_holds_one_attempt(committed: ThreeSites) -> None:
    proof = ProofStore(open_store(committed.state_uri), committed.opened.ticket)
    changes: list[Callable[[], None]] = [
        lambda: proof.create("rounds/00001-1/more.json", b""),
        lambda: proof.create_from("rounds/00001-1/more.json", [b""]),
        lambda: proof.remove("rounds/00001-1/ticket.json"),
    ]
    for change in changes:
        with pytest.raises(StoreError, match="is read only"):
            change()
    for key in ("rounds/00001-2/ticket.json", "rounds/00002-1/ticket.json", "models/aa.safetensors"):
        with pytest.raises(ObjectMissingError, match="keeps no copy of"):
            proof.read(key)
        assert not proof.exists(key)
    assert not proof.exists("rounds/00001-1/sum.bin")
