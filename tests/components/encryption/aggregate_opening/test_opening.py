"""The `open` step: the key holder opens the sum of one agreed set, added by himself, and signs for it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from components.agreement.cutoff import Cutoff, cutoff_key, sum_key
from components.agreement.receipt import aggregate_key, receipt_key
from components.agreement.sealed_manifest import blob_key
from components.artifacts.stores import key_of
from components.artifacts.tensors import decode_any
from components.errors import (
    CrosscloudError,
    DigestMismatchError,
    IntegrityError,
    QuorumNotReachedError,
    UsageError,
)
from tests.components.aggregation.three_sites import SITES, ThreeSites

Start = Callable[[str], ThreeSites]
protections = pytest.mark.parametrize("protection", ["none", "he"])


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    return lambda protection: ThreeSites.start(protection=protection, hidden_units=3)


def summed(three: ThreeSites, sites: tuple[str, ...] = SITES) -> str:
    sealed = three.sealed()
    return three.aggregate({site: sealed[site] if site in sites else "" for site in SITES}).reference


def aggregate_of(three: ThreeSites) -> NDArray[np.float64]:
    found = decode_any(three.exchange.read(aggregate_key(three.opened.ticket)))
    assert found.keys() == {"aggregate"}
    return found["aggregate"].astype(np.float64)


def nothing_is_opened(three: ThreeSites) -> bool:
    ticket = three.opened.ticket
    return not any(three.exchange.exists(key(ticket)) for key in (aggregate_key, receipt_key))


@protections
@pytest.mark.parametrize("members", [SITES, ("alpha", "gamma")])
def test_the_aggregate_is_the_sum_of_the_members_alone(
    start: Start, protection: str, members: tuple[str, ...]
) -> None:
    three = start(protection)
    three.open_sum(summed(three, members))
    vectors = [three.weighted(site) for site in members]
    found = aggregate_of(three)
    if protection == "none":
        total = np.zeros(len(vectors[0]))
        for vector in vectors:  # in the order of the names, as float64 addition is not associative
            total = total + vector
        assert np.array_equal(found, total)
    else:
        # HeOpener's bound: half of 2^-14 and the noise.
        np.testing.assert_allclose(found, np.sum(vectors, axis=0), rtol=0, atol=1e-4)
        assert np.abs(found[:-1]).max() > 1  # the bound is small beside what is summed
    assert found[-1] == {SITES: 26 + 16 + 40, ("alpha", "gamma"): 26 + 40}[members]


@protections
def test_the_receipt_is_signed_over_what_was_opened(start: Start, protection: str) -> None:
    three = start(protection)
    outcome = three.open_sum(summed(three))
    ticket, exchange = three.opened.ticket, three.exchange
    document = json.loads(exchange.read(key_of(exchange, outcome.reference)))
    assert document["signer"] == "key-holder"
    assert document["body"] == {
        "ticket": ticket.digest,
        "roster": three.attempt().roster().digest,
        "purpose": "update",
        "members": list(SITES),
        "sealed_sum": hashlib.sha256(exchange.read(sum_key(ticket))).hexdigest(),
        "aggregate": hashlib.sha256(exchange.read(aggregate_key(ticket))).hexdigest(),
        "previous": "",
    }
    public = yaml.safe_load((three.keys_folder / "public.yaml").read_bytes())["keys"]["key-holder"]
    canonical = json.dumps(document["body"], sort_keys=True, separators=(",", ":")).encode()
    Ed25519PublicKey.from_public_bytes(base64.b64decode(public)).verify(
        base64.b64decode(document["signature"]), b"crosscloud receipt\0" + hashlib.sha256(canonical).digest()
    )


def test_receipts_form_a_chain(start: Start) -> None:
    three = start("none")
    three.committed()
    first = three.exchange.read(receipt_key(three.opened.ticket))
    later = three.next_round()
    later.committed()
    second = json.loads(later.exchange.read(receipt_key(later.opened.ticket)))
    assert second["body"]["previous"] == hashlib.sha256(first).hexdigest()


@protections
def test_a_second_run_returns_the_stored_receipt_and_needs_no_key(start: Start, protection: str) -> None:
    three = start(protection)
    sealed_sum = summed(three)
    first = three.open_sum(sealed_sum)
    before = [three.exchange.read(key(three.opened.ticket)) for key in (receipt_key, aggregate_key)]
    for path in (three.keys_folder / "key-holder").iterdir():
        path.unlink()
    assert three.open_sum(sealed_sum) == first
    assert [three.exchange.read(key(three.opened.ticket)) for key in (receipt_key, aggregate_key)] == before


def test_one_that_was_killed_before_the_receipt_gives_the_same_one(start: Start) -> None:
    three = start("he")
    sealed_sum = summed(three)
    three.open_sum(sealed_sum)
    path = three.exchange_folder / receipt_key(three.opened.ticket)
    receipt = path.read_bytes()
    path.unlink()
    three.open_sum(sealed_sum)
    assert path.read_bytes() == receipt


@protections
@pytest.mark.parametrize("fault", ["one bit", "cut", "longer", "one site's own"])
def test_a_sum_that_the_aggregator_altered_is_not_opened(start: Start, protection: str, fault: str) -> None:
    three = start(protection)
    sealed_sum = summed(three)
    path = three.exchange_folder / sum_key(three.opened.ticket)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    altered = {
        "one bit": bytes(content),
        "cut": bytes(content[:-1]),
        "longer": bytes(content) + b"\0",
        "one site's own": three.exchange.read(blob_key(three.opened.ticket, "alpha")),
    }[fault]
    path.write_bytes(altered)
    with pytest.raises(IntegrityError, match=r"sum"):
        three.open_sum(sealed_sum)
    assert nothing_is_opened(three)


def test_a_reference_to_one_sites_update_is_not_opened(start: Start) -> None:
    three = start("he")
    summed(three)
    with pytest.raises(DigestMismatchError):
        three.open_sum(f"{three.exchange_uri}/{blob_key(three.opened.ticket, 'alpha')}")
    assert nothing_is_opened(three)


def test_a_member_altered_after_the_cut_off_is_not_opened(start: Start) -> None:
    three = start("he")
    sealed_sum = summed(three)
    path = three.exchange_folder / blob_key(three.opened.ticket, "beta")
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(DigestMismatchError, match="beta"):
        three.open_sum(sealed_sum)
    assert nothing_is_opened(three)


def test_a_cut_off_below_the_quorum_is_not_opened(start: Start) -> None:
    three = start("none")
    sealed_sum = summed(three, ("alpha", "beta"))
    with pytest.raises(QuorumNotReachedError, match="sum of 2 sites is not opened, the quorum is 3"):
        three.open_sum(sealed_sum, min_sites=3)
    assert nothing_is_opened(three)


def test_repeating_a_member_does_not_make_a_quorum(start: Start) -> None:
    three = start("none")
    sealed_sum = summed(three, ("alpha", "beta"))
    path = three.exchange_folder / cutoff_key(three.opened.ticket)
    cutoff = json.loads(path.read_bytes())
    path.write_bytes(json.dumps(cutoff | {"members": ["alpha", "beta", "beta"]}).encode())
    with pytest.raises(QuorumNotReachedError):
        three.open_sum(sealed_sum, min_sites=3)
    assert nothing_is_opened(three)


@pytest.mark.parametrize("fault", ["a stranger", "another roster", "no cut-off at all"])
def test_a_cut_off_that_does_not_follow_from_the_roster_is_refused(start: Start, fault: str) -> None:
    three = start("none")
    sealed_sum = summed(three)
    roster = three.attempt().roster().digest
    path = three.exchange_folder / cutoff_key(three.opened.ticket)
    path.write_bytes(
        {
            "a stranger": Cutoff(roster=roster, members=(*SITES, "mallory"), left_out={}).to_json(),
            "another roster": Cutoff(roster="0" * 64, members=SITES, left_out={}).to_json(),
            "no cut-off at all": b"[]",
        }[fault]
    )
    with pytest.raises(IntegrityError, match="cut-off"):
        three.open_sum(sealed_sum)
    assert nothing_is_opened(three)


def test_other_values_in_the_place_of_the_aggregate_are_not_signed_for(start: Start) -> None:
    three = start("none")
    sealed_sum = summed(three)
    three.exchange.create(aggregate_key(three.opened.ticket), b"something else")
    with pytest.raises(DigestMismatchError):
        three.open_sum(sealed_sum)
    assert not three.exchange.exists(receipt_key(three.opened.ticket))


@pytest.mark.parametrize(
    ("file", "mode", "rule"),
    [("he.secret", 0o644, "may be read by others"), ("signing.key", 0o640, "may be read by others")],
)
def test_a_key_that_others_can_read_is_not_used(start: Start, file: str, mode: int, rule: str) -> None:
    three = start("he")
    sealed_sum = summed(three)
    (three.keys_folder / "key-holder" / file).chmod(mode)
    with pytest.raises(UsageError, match=rule):
        three.open_sum(sealed_sum)
    assert not three.exchange.exists(receipt_key(three.opened.ticket))


def test_the_secret_key_of_another_federation_opens_nothing(start: Start) -> None:
    three, other = start("he"), ThreeSites.start("other", protection="he")
    sealed_sum = summed(three)
    secret = three.keys_folder / "key-holder/he.secret"
    secret.write_bytes((other.keys_folder / "key-holder/he.secret").read_bytes())
    with pytest.raises(CrosscloudError):
        three.open_sum(sealed_sum)
    assert nothing_is_opened(three)
