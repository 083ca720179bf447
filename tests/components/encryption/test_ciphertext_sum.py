"""Signature and digest first, then length, then the summer: in this order for every sealed update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from components.agreement.cutoff import Cutoff
from components.agreement.sealed_manifest import blob_key, manifest_key
from components.encryption import protection
from components.encryption.ciphertext_sum import checked_blob, sealed_length, sum_members
from components.errors import CiphertextError, DigestMismatchError, IntegrityError, SignatureError
from tests.components.aggregation.three_sites import CLASSES, FEATURES, ThreeSites

LENGTH = CLASSES * FEATURES + CLASSES + 1


class Recording:
    """A summer that only remembers what it was asked."""

    def __init__(self) -> None:
        self.checked: list[tuple[bytes, int]] = []
        self.added: list[bytes] = []

    def check(self, blob: bytes, length: int) -> None:
        self.checked.append((blob, length))

    def add(self, blobs: Sequence[bytes], length: int) -> bytes:
        self.added += blobs
        return b"the sum"


class Refusing(Recording):
    """A summer that finds every blob wanting."""

    def check(self, blob: bytes, length: int) -> None:
        raise CiphertextError("not one of ours")


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    three = ThreeSites.start(protection="he")
    three.sealed()
    return three


@pytest.mark.parametrize("hidden_units", [0, 3])
def test_a_sealed_update_is_as_long_as_the_model_and_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden_units: int
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    three = ThreeSites.start(hidden_units=hidden_units)
    linear = CLASSES * FEATURES + CLASSES
    deep = hidden_units * FEATURES + hidden_units + CLASSES * hidden_units + CLASSES
    assert sealed_length(three.attempt()) == (deep if hidden_units else linear) + 1


def test_a_verified_blob_is_given_to_the_summer_and_returned(three: ThreeSites) -> None:
    attempt, adder = three.attempt(), Recording()
    blob = checked_blob(attempt, attempt.roster(), "beta", adder, LENGTH)
    assert blob == three.exchange.read(blob_key(three.opened.ticket, "beta"))
    assert adder.checked == [(blob, LENGTH)]


@pytest.mark.parametrize("fault", ["altered", "longer", "unsigned", "another's", "another length"])
def test_what_does_not_verify_never_reaches_the_summer(three: ThreeSites, fault: str) -> None:
    attempt, adder, ticket = three.attempt(), Recording(), three.opened.ticket
    blob = three.exchange_folder / blob_key(ticket, "beta")
    manifest = three.exchange_folder / manifest_key(ticket, "beta")
    error: type[IntegrityError] = IntegrityError
    if fault == "altered":
        content = bytearray(blob.read_bytes())
        content[77] ^= 4  # in the header's size field, which a native parser would trust
        blob.write_bytes(content)
        error = DigestMismatchError
    elif fault == "longer":
        blob.write_bytes(blob.read_bytes() * 2)
    elif fault == "unsigned":
        manifest.write_bytes(manifest.read_bytes().replace(b'"signature":"', b'"signature":"AAAA'))
        error = SignatureError
    elif fault == "another's":
        other = manifest_key(ticket, "gamma")
        manifest.write_bytes((three.exchange_folder / other).read_bytes())
        error = SignatureError
    else:
        error = CiphertextError
    with pytest.raises(error):
        checked_blob(
            attempt, attempt.roster(), "beta", adder, LENGTH + 1 if fault == "another length" else LENGTH
        )
    assert adder.checked == []


def test_what_the_summer_refuses_is_refused(three: ThreeSites) -> None:
    attempt = three.attempt()
    with pytest.raises(CiphertextError, match="not one of ours"):
        checked_blob(attempt, attempt.roster(), "beta", Refusing(), LENGTH)


def test_members_are_added_in_the_order_of_the_cut_off(three: ThreeSites) -> None:
    attempt, adder = three.attempt(), Recording()
    roster = attempt.roster()
    cutoff = Cutoff(roster=roster.digest, members=("alpha", "gamma"), left_out={})
    total, received = sum_members(attempt, roster, cutoff, adder)
    blobs = [three.exchange.read(blob_key(three.opened.ticket, site)) for site in cutoff.members]
    assert total == b"the sum"
    assert adder.added == blobs
    assert [blob for blob, _ in adder.checked] == blobs
    assert received == sum(map(len, blobs))


def test_one_member_that_does_not_verify_stops_the_whole_sum(three: ThreeSites) -> None:
    attempt, adder = three.attempt(), Recording()
    roster = attempt.roster()
    path = three.exchange_folder / blob_key(three.opened.ticket, "gamma")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DigestMismatchError):
        sum_members(attempt, roster, Cutoff(roster=roster.digest, members=roster.sites, left_out={}), adder)
    assert adder.added == []


def test_the_sum_of_ciphertexts_opens_to_the_sum(three: ThreeSites) -> None:
    attempt = three.attempt()
    roster = attempt.roster()
    adder = protection.summer("he", (three.keys_folder / "contexts/he.public").read_bytes())
    cutoff = Cutoff(roster=roster.digest, members=roster.sites, left_out={})
    total, _ = sum_members(attempt, roster, cutoff, adder)
    secret = (three.keys_folder / "key-holder/he.secret").read_bytes()
    opened = protection.opener("he", secret).open(total, LENGTH)
    columns = zip(*(three.weighted(site) for site in roster.sites), strict=True)
    np.testing.assert_allclose(opened, [math.fsum(column) for column in columns], rtol=0, atol=1e-4)
