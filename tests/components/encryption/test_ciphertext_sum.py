"""Manifest first, then bytes that are compared with it as they are added: for every member of every sum."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from components.agreement.cutoff import Cutoff
from components.agreement.sealed_manifest import blob_key, manifest_key
from components.artifacts.documents import digest
from components.encryption.bfv.packing import Packing
from components.encryption.bfv.sealed import SealedOpener
from components.encryption.ciphertext_sum import (
    MemberSum,
    attempt_summer,
    check_blob,
    checked_manifest,
    sealed_length,
)
from components.encryption.contexts import secret_context
from components.encryption.masking.masks import Masks
from components.encryption.protection import opener
from components.errors import CiphertextError, DigestMismatchError, IntegrityError, SignatureError
from tests.components.aggregation.three_sites import CLASSES, FEATURES, ThreeSites
from tests.components.rounds.walks import walk

LENGTH = CLASSES * FEATURES + CLASSES + 1
HEADER_BYTES = 80


@pytest.fixture(params=["none", "he", "sealed"])
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return walk("sealed", request.param).three


def length_of(three: ThreeSites) -> int:
    return LENGTH + (three.request.protection == "sealed")


def blob_path(three: ThreeSites, site: str = "beta") -> Path:
    return three.exchange_folder / blob_key(three.opened.ticket, site)


def sum_of(three: ThreeSites, *members: str) -> MemberSum:
    attempt = three.attempt()
    roster = attempt.roster()
    cutoff = Cutoff(roster=roster.digest, members=members or roster.sites, left_out={})
    return MemberSum(attempt=attempt, roster=roster, cutoff=cutoff, length=length_of(three))


def added(three: ThreeSites, *members: str) -> bytes:
    return b"".join(sum_of(three, *members).add(attempt_summer(three.attempt())))


def check(three: ThreeSites, site: str = "beta") -> None:
    attempt = three.attempt()
    manifest = checked_manifest(attempt, attempt.roster(), site, length_of(three))
    check_blob(attempt, manifest, attempt_summer(attempt))


@pytest.mark.parametrize("hidden_units", [0, 3])
@pytest.mark.parametrize("protection", ["none", "he", "sealed"])
def test_a_sealed_update_is_as_long_as_the_model_and_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protection: str, hidden_units: int
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    three = walk("open", protection, hidden_units=hidden_units).three
    linear = CLASSES * FEATURES + CLASSES
    deep = hidden_units * FEATURES + hidden_units + CLASSES * hidden_units + CLASSES
    digits = 2 if protection == "sealed" else 1
    assert sealed_length(three.attempt()) == (deep if hidden_units else linear) + digits


def test_what_its_site_signed_passes(three: ThreeSites) -> None:
    for site in three.sites:
        check(three, site)
        assert sum_of(three).manifest(site).blob == digest(blob_path(three, site).read_bytes())


def test_an_altered_byte_is_refused_wherever_it_is(three: ThreeSites) -> None:
    """The words of a ciphertext with one bit flipped are as valid as before: the digest alone tells."""
    path = blob_path(three)
    for position in (0, 77, HEADER_BYTES + 3, -1):
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)
        are_refused(three)
        assert added(three, "alpha", "gamma")
        content[position] ^= 1
        path.write_bytes(content)
    assert added(three)


def are_refused(three: ThreeSites) -> None:
    """Beta's bytes, checked by themselves and added to the others'."""
    with pytest.raises(IntegrityError):
        check(three)
    with pytest.raises(IntegrityError):
        added(three)


def test_another_size_is_refused(three: ThreeSites) -> None:
    path = blob_path(three)
    content = path.read_bytes()
    cut = [content[:size] for size in (0, HEADER_BYTES - 1, HEADER_BYTES, -1)]
    for changed in (*cut, content + b"\0", content + bytes(100_000)):
        path.write_bytes(changed)
        are_refused(three)


def test_a_sum_counts_only_once_it_has_ended(three: ThreeSites) -> None:
    """The last bit of the last member is wrong: every block is there before it shows."""
    whole = added(three)
    path = blob_path(three, "gamma")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    given: list[bytes] = []
    with pytest.raises(DigestMismatchError, match="the sealed update of gamma is not the one its manifest"):
        given.extend(sum_of(three).add(attempt_summer(three.attempt())))
    assert len(b"".join(given)) == len(whole)
    assert b"".join(given) != whole


@pytest.mark.parametrize("fault", ["unsigned", "another's", "another length", "another blob"])
def test_a_manifest_that_does_not_verify_is_refused_before_a_byte_is_read(
    three: ThreeSites, fault: str
) -> None:
    ticket, length = three.opened.ticket, length_of(three)
    manifest = three.exchange_folder / manifest_key(ticket, "beta")
    if fault == "unsigned":
        manifest.write_bytes(manifest.read_bytes().replace(b'"signature":"', b'"signature":"AAAA'))
    elif fault == "another's":
        manifest.write_bytes((three.exchange_folder / manifest_key(ticket, "gamma")).read_bytes())
    elif fault == "another blob":
        manifest.write_bytes(manifest.read_bytes().replace(b'"blob":"', b'"blob":"0'))
    else:
        length += 1
    blob_path(three).unlink()
    attempt = three.attempt()
    with pytest.raises(CiphertextError if fault == "another length" else SignatureError):
        checked_manifest(attempt, attempt.roster(), "beta", length)


def test_members_are_added_in_the_order_of_their_names(three: ThreeSites) -> None:
    total = added(three)
    summer = attempt_summer(three.attempt())
    blobs = [io.BytesIO(blob_path(three, site).read_bytes()) for site in ("alpha", "beta", "gamma")]
    assert total == b"".join(summer.add(blobs, length_of(three)))
    assert len(total) == blob_path(three).stat().st_size


def test_who_is_no_member_is_not_added(three: ThreeSites) -> None:
    total = added(three, "alpha", "gamma")
    assert total not in (added(three), added(three, "alpha", "beta"))
    blob_path(three).unlink()
    assert added(three, "alpha", "gamma") == total


@pytest.mark.parametrize("three", ["none", "he"], indirect=True)
def test_the_sum_of_ciphertexts_opens_to_the_sum(three: ThreeSites) -> None:
    secret = secret_context(three.attempt())
    opened = opener(three.request.protection, secret).open(io.BytesIO(added(three)), LENGTH)
    expected = np.sum([three.weighted(site) for site in three.sites], axis=0)
    np.testing.assert_allclose(opened, expected, rtol=0, atol=1e-4)


def test_the_sum_of_masked_ciphertexts_does_not_open_without_the_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pairwise masks cancel; each member's own mask still covers every slot, the zero slots too."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    three = walk("sealed", "sealed").three
    nothing = Masks(added=(), subtracted=())
    key_holder = SealedOpener(secret_context(three.attempt()), Packing(values_per_slot=2, sites=3), nothing)
    with pytest.raises(CiphertextError, match="does not open to a sum of updates: refused"):
        key_holder.open(io.BytesIO(added(three)), LENGTH + 1)
