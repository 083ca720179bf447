"""What an honest coordinator refuses: commitments that do not verify, receipts and sums that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from components.agreement.commitment import Commitment, commitment_key, read_commitment
from components.agreement.model_store import model_key
from components.agreement.receipt import aggregate_key, read_receipt, receipt_key
from components.agreement.site_update import keep_update
from components.artifacts import tensors
from components.artifacts.stores import open_store
from components.errors import CrosscloudError, DigestMismatchError, IntegrityError, SignatureError
from components.rounds.state import committed_rounds
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.encryption.refusals.walk import (
    FOUR,
    THREE,
    WalkTo,
    goes_on,
    put,
    refused,
    signing_key,
)

COMMITMENTS: dict[str, tuple[Callable[[ThreeSites, Commitment], bytes], str]] = {
    "signed by another site": (
        lambda three, own: own.signed(signing_key(three, "beta")),
        "the signature of delta on a commitment document does not verify",
    ),
    "made for another ticket": (
        lambda three, own: replace(own, ticket="0" * 64).signed(signing_key(three, "delta")),
        "the commitment of delta was made for another ticket",
    ),
    "with half a key": (
        lambda three, own: replace(own, ephemeral="AAAA").signed(signing_key(three, "delta")),
        "a public key must be 32 bytes in base64",
    ),
    "not signed": (lambda three, own: b"{}", "is not a signed document"),
}


@pytest.mark.parametrize("name", COMMITMENTS)
def test_a_commitment_that_does_not_verify_is_left_out_of_the_roster(walk_to: WalkTo, name: str) -> None:
    three = walk_to("opened", FOUR).three
    commitments = three.train()
    ticket, key = three.opened.ticket, commitment_key(three.opened.ticket, "delta")
    forge, text = COMMITMENTS[name]
    put(three, key, forge(three, read_commitment(three.exchange.read(key), ticket, "delta", three.charter)))
    roster = three.roster(commitments)
    assert three.attempt().roster().sites == THREE
    assert text in three.attempt().roster().left_out["delta"]
    if name == "not signed":
        three.commit(three.open_sum(three.summed(three.seal(roster, THREE))).reference)


FORGED: dict[str, tuple[type[CrosscloudError], str]] = {
    "signed by the coordinator": (SignatureError, "the signature of key-holder on a receipt document"),
    "of another ticket": (SignatureError, "was given for another ticket"),
    "of another aggregate": (DigestMismatchError, "is not the one its receipt signs"),
    "of other sites": (IntegrityError, "is not of the sites of its cut-off"),
    "of a stranger": (SignatureError, "was given for another ticket"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_receipt_that_does_not_follow_is_not_committed(walk_to: WalkTo, name: str) -> None:
    walk = walk_to("released")
    three = walk.three
    reference = three.open_sum(walk.total).reference
    key = receipt_key(three.opened.ticket.folder)
    genuine = three.exchange.read(key)
    given = read_receipt(genuine, three.opened.ticket, three.charter)
    two = {site: blob for site, blob in given.ciphertexts.items() if site != "gamma"}
    forged = {
        "signed by the coordinator": given,
        "of another ticket": replace(given, ticket="0" * 64),
        "of another aggregate": replace(given, aggregate="0" * 64),
        "of other sites": replace(given, ciphertexts=two),
        "of a stranger": replace(given, ciphertexts={**two, "mallory": "0" * 64}),
    }[name]
    signer = "coordinator" if name == "signed by the coordinator" else "key-holder"
    put(three, key, forged.signed(signing_key(three, signer)))
    error, text = FORGED[name]
    with refused(three, error, text):
        three.commit(reference)
    put(three, key, genuine)
    three.commit(reference)


def test_an_aggregate_altered_after_it_was_opened_is_not_committed(walk_to: WalkTo) -> None:
    walk = walk_to("released")
    three = walk.three
    reference = three.open_sum(walk.total).reference
    altered = tensors.encode({"aggregate": np.append(np.ones(28), 10.0)})
    put(three, aggregate_key(three.opened.ticket.folder), altered)
    with refused(three, DigestMismatchError, "is not the one its receipt signs"):
        three.commit(reference)


def test_another_model_under_the_tickets_digest_is_not_built_on(walk_to: WalkTo) -> None:
    walk = walk_to("released")
    three = walk.three
    reference = three.open_sum(walk.total).reference
    put(three, model_key(three.opened.ticket.model), b"another")
    with refused(three, DigestMismatchError, "the model in the exchange is not the one with digest"):
        three.commit(reference)


def test_a_sum_longer_than_clipped_updates_is_not_committed_and_the_next_run_goes_on(
    walk_to: WalkTo,
) -> None:
    """A malicious site seals the largest integers there are; nobody can say which site it was."""
    three = walk_to("opened").three
    place = three.accepted("gamma")
    longest = np.full(30, 1_398_101, np.int32)
    longest[-2:] = 1, 0
    keep_update(place.store, place.ticket, longest)
    reference = three.open_sum(three.summed(three.sealed())).reference
    noted = ["exchange/rounds/00001-1/shortfall.json"]
    with refused(three, IntegrityError, "is longer than the charter's clipping norm", remembers=noted):
        three.commit(reference)
    assert committed_rounds(open_store(three.state_uri)) == []
    later = three.next_attempt()
    assert (later.opened.ticket.round_number, later.opened.ticket.model) == (2, three.opened.ticket.model)
    goes_on(later)
