"""What the aggregator refuses of a malicious site: the site is left out, and the sum is of the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from components.agreement.cutoff import cutoff_key, sum_key
from components.agreement.sealed_manifest import blob_key, manifest_key
from components.encryption.bfv.words import MODULUS
from components.encryption.framing import HEADER_BYTES
from components.errors import DigestMismatchError, IntegrityError, SignatureError
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.encryption.refusals.walk import (
    FOUR,
    THREE,
    WalkTo,
    blob_of,
    goes_on,
    put,
    refused,
    roster_of,
    show_cutoff,
    upload,
    with_words,
    words_of,
)

Attack = Callable[[ThreeSites, bytes], None]


def stating(**changes: Any) -> Attack:
    return lambda three, blob: upload(three, "delta", blob, **changes)


def sealing(change: Callable[[bytes], bytes]) -> Attack:
    """The bytes are altered, and delta signs for them."""
    return lambda three, blob: upload(three, "delta", change(blob))


def storing(change: Callable[[bytes], bytes]) -> Attack:
    """The bytes are altered after delta has signed: by whoever can write to the exchange."""

    def attack(three: ThreeSites, blob: bytes) -> None:
        put(three, blob_key(three.opened.ticket, "delta"), change(blob))

    return attack


def no_residue(blob: bytes) -> bytes:
    words = words_of(blob)
    words[5] = MODULUS
    return with_words(blob, words)


def of_another_key(blob: bytes) -> bytes:
    return blob[:24] + bytes(32) + blob[56:]


def flipped(blob: bytes) -> bytes:
    return blob[:-1] + bytes([blob[-1] ^ 1])


def large_manifest(three: ThreeSites, blob: bytes) -> None:
    put(three, manifest_key(three.opened.ticket, "delta"), b" " * (1 << 17))


def unsigned_manifest(three: ThreeSites, blob: bytes) -> None:
    key = manifest_key(three.opened.ticket, "delta")
    body = json.loads(three.exchange.read(key))["body"]
    put(three, key, json.dumps(body).encode())


def replayed_manifest(three: ThreeSites, blob: bytes) -> None:
    """Another site's manifest and bytes under delta's name would double that site's update."""
    ticket = three.opened.ticket
    for key in (manifest_key, blob_key):
        put(three, key(ticket, "delta"), three.exchange.read(key(ticket, "alpha")))


ATTACKS: dict[str, tuple[Attack, str]] = {
    "signed by another site": (stating(signer="gamma"), "the signature of delta on a sealed update document"),
    "another site's": (replayed_manifest, "names another signer"),
    "unsigned": (unsigned_manifest, "is not a signed document"),
    "too large": (large_manifest, "the manifest of delta is larger than any manifest"),
    "foreign charter": (stating(charter="0" * 64), "was made for another charter"),
    "replayed from another ticket": (stating(ticket="0" * 64), "was made for another ticket"),
    "of another roster": (stating(roster="0" * 64), "was made for another roster"),
    "of a foreign purpose": (stating(purpose="metrics"), "was made for another purpose"),
    "of another protection": (stating(protection="none"), "was made for another protection"),
    "under another key certificate": (stating(certificate="0" * 64), "was made for another certificate"),
    "of another length": (stating(length=31), "the sealed update of delta has 31 values"),
    "of no size": (stating(size=0), "states a size that no sealed update has"),
    "of a size that it has not": (stating(size=HEADER_BYTES), "delta has 80 bytes, all of this round have"),
    "of a size that fills a disk": (stating(size=2**34), "delta has 17179869184 bytes, all of this"),
    "altered in the exchange": (storing(flipped), "is not the one its manifest signs"),
    "cut in the exchange": (storing(lambda blob: blob[:-8]), "is not the one its manifest signs"),
    "longer in the exchange": (storing(lambda blob: blob + bytes(8)), "is not the one its manifest signs"),
    "a word that no ciphertext has": (sealing(no_residue), "words that no ciphertext has"),
    "of another encryption key": (sealing(of_another_key), "sealed for context 000000000000"),
    "truncated": (sealing(lambda blob: blob[:-8]), "bytes, all of this round have"),
    "padded": (sealing(lambda blob: blob + bytes(8)), "bytes, all of this round have"),
    "a header alone": (sealing(lambda blob: blob[:HEADER_BYTES]), "bytes, all of this round have"),
    "in the clear": (
        sealing(lambda blob: (b"XCPLAIN " * len(blob))[: len(blob)]),
        "not a sealed update of format 1",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_site_that_does_not_verify_is_left_out(walk_to: WalkTo, name: str) -> None:
    walk = walk_to("sealed", FOUR)
    three = walk.three
    honest = [words_of(blob_of(three, site)) for site in THREE]
    attack, text = ATTACKS[name]
    attack(three, blob_of(three, "delta"))
    outcome = three.aggregate(walk.sealed)
    assert outcome.manifest["sites"] == list(THREE)
    cutoff = json.loads(three.exchange.read(cutoff_key(three.opened.ticket)))
    assert list(cutoff["left_out"]) == ["delta"]
    assert cutoff["left_out"]["delta"].startswith("refused: ")
    assert text in cutoff["left_out"]["delta"]
    # Independently added: each below 2^60, so three fit a word.
    added = (honest[0] + honest[1] + honest[2]) % np.uint64(MODULUS)
    assert np.array_equal(words_of(three.exchange.read(sum_key(three.opened.ticket))), added)


def test_the_others_go_on_without_it(walk_to: WalkTo) -> None:
    walk = walk_to("sealed", FOUR)
    upload(walk.three, "delta", blob_of(walk.three, "delta"), purpose="metrics")
    walk.three.aggregate(walk.sealed)
    goes_on(walk.three, THREE)


def test_a_cut_off_of_another_roster_is_not_added(walk_to: WalkTo) -> None:
    walk = walk_to("sealed", FOUR)
    show_cutoff(walk.three, FOUR, roster="0" * 64)
    with refused(walk.three, IntegrityError, "does not follow from its roster"):
        walk.three.aggregate(walk.sealed)


def test_a_cut_off_with_a_member_that_does_not_verify_is_not_added(walk_to: WalkTo) -> None:
    """A malicious coordinator names the set itself, with a site whose bytes are not what it signed."""
    walk = walk_to("sealed", FOUR)
    three = walk.three
    put(three, blob_key(three.opened.ticket, "delta"), flipped(blob_of(three, "delta")))
    show_cutoff(three, FOUR)
    with refused(three, DigestMismatchError, "the sealed update of delta is not the one its manifest signs"):
        three.aggregate(walk.sealed)


def test_a_roster_that_the_coordinator_did_not_sign_is_not_added_for(walk_to: WalkTo) -> None:
    walk = walk_to("sealed", FOUR)
    three = walk.three
    called = replace(roster_of(three), left_out={})
    put(three, f"{three.opened.ticket.folder}/roster.json", called.signed(three.place("beta").key))
    with refused(three, SignatureError, "the signature of coordinator on a roster document"):
        three.aggregate(walk.sealed)
