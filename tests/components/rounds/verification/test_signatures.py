"""Every document of a chain is its party's own, and what a party signs must be right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from components.agreement.charter import COORDINATOR, KEY_HOLDER
from components.artifacts import tensors
from components.artifacts.documents import digest
from tests.components.rounds.verification.chain import Chain, Change, changed

WRONG_SIGNERS = {
    "1/round.json": (KEY_HOLDER, COORDINATOR, "round 1: record: the signature of coordinator on a round"),
    "2/void.json": ("alpha", COORDINATOR, "round 2: void: the signature of coordinator on a void"),
    "3/proof/ticket.json": (
        "alpha",
        COORDINATOR,
        "round 3: ticket: the signature of coordinator on a ticket",
    ),
    "3/proof/roster.json": ("beta", COORDINATOR, "round 3: roster: the signature of coordinator on a roster"),
    "1/proof/sealed/alpha.json": (
        "beta",
        "alpha",
        "round 1: manifest of alpha: the signature of alpha on a sealed update",
    ),
    "1/proof/released/beta.json": (
        COORDINATOR,
        "beta",
        "round 1: release of beta: the signature of beta on a release",
    ),
    "keys/certificates/sealed/00001.json": (
        COORDINATOR,
        KEY_HOLDER,
        "round 1: key: the signature of key-holder on a key certificate",
    ),
}


@pytest.mark.parametrize("name", WRONG_SIGNERS)
def test_a_document_that_another_party_signed_is_refused(chain: Chain, name: str) -> None:
    owner, signer, expected = WRONG_SIGNERS[name]
    chain.sign(name, lambda body: body, owner, signer)
    assert [line for line in chain.problems if line.startswith(expected)]


OWN_SIGNATURES: dict[str, tuple[str, Change, str, str]] = {
    "loosened parameter": (
        "1/proof/ticket.json",
        changed(local_epochs=11),
        COORDINATOR,
        "round 1: ticket: the charter allows local_epochs of at most 10, the ticket asks for 11",
    ),
    "rounds used up": (
        "4/proof/ticket.json",
        changed(round_number=51),
        COORDINATOR,
        "round 4: ticket: the charter allows round_number of at most 50, the ticket asks for 51",
    ),
    "another ticket": (
        "1/proof/ticket.json",
        changed(seed=4),
        COORDINATOR,
        "round 1: ticket: is not the one that the record names",
    ),
    "replayed receipt": (
        "4/proof/ticket.json",
        lambda body: body | {"previous": "ab" * 32},
        COORDINATOR,
        "round 4: ticket: does not follow from the receipt of the last committed round",
    ),
    "receipt elsewhere": (
        "4/proof/ticket.json",
        changed(previous_folder="rounds/00002-1"),
        COORDINATOR,
        "round 4: ticket: does not follow from the receipt of the last committed round",
    ),
    "model of one's own": (
        "3/proof/ticket.json",
        changed(model="cd" * 32),
        COORDINATOR,
        "round 3: ticket: its model is not the one that the last committed round made",
    ),
    "genesis of one's own": (
        "1/proof/ticket.json",
        changed(model="cd" * 32),
        COORDINATOR,
        "round 1: ticket: its model is not the one that the charter starts from",
    ),
    "snapshot that goes back": (
        "3/proof/ticket.json",
        changed(snapshot="2001-02-03T04:05:06+00:00"),
        COORDINATOR,
        "round 3: ticket: its snapshot goes back to 2001-02-03T04:05:06+00:00",
    ),
    "snapshot without a zone": (
        "1/proof/ticket.json",
        changed(snapshot="2001-02-03T04:05:06"),
        COORDINATOR,
        "round 1: ticket: its snapshot, 2001-02-03T04:05:06, is not a time with its zone",
    ),
    "second attempt without a void": (
        "3/proof/ticket.json",
        changed(void="ef" * 32),
        COORDINATOR,
        "round 3: ticket: attempt 2 of round 3 was opened without a void of the one before",
    ),
    "sybil": (
        "1/proof/roster.json",
        lambda body: body | {"commitments": body["commitments"] | {"mallory": "ab" * 32}},
        COORDINATOR,
        "round 1: roster: the roster in rounds/00001-1 names mallory, which the charter does not",
    ),
    "swapped commitment": (
        "1/proof/roster.json",
        lambda body: body | {"commitments": body["commitments"] | {"beta": body["commitments"]["alpha"]}},
        COORDINATOR,
        "round 1: commitment of beta: is not the one on the roster",
    ),
    "small roster": (
        "1/proof/roster.json",
        lambda body: body | {"commitments": {s: body["commitments"][s] for s in ("alpha", "beta")}},
        COORDINATOR,
        "round 1: roster: has 2 sites, the charter asks for 3",
    ),
    "other reasons": (
        "3/round.json",
        changed(left_out={}),
        COORDINATOR,
        "round 3: record: leaves out other sites than roster and cut-off",
    ),
    "other members": (
        "3/round.json",
        changed(members=["alpha", "beta", "delta", "gamma"]),
        COORDINATOR,
        "round 3: record: its members are not those of the cut-off",
    ),
    "another round": (
        "1/round.json",
        changed(round_number=3),
        COORDINATOR,
        "round 1: record: is the one of round 3",
    ),
    "foreign charter": (
        "4/round.json",
        changed(charter="ab" * 32),
        COORDINATOR,
        "round 4: record: was committed under a foreign charter, abababababab",
    ),
    "another federation": (
        "4/round.json",
        changed(federation="other"),
        COORDINATOR,
        "round 4: record: a round of other was given to a party of small",
    ),
    "another model": (
        "3/round.json",
        changed(model="ab" * 32),
        COORDINATOR,
        "round 3: model: is not the one that the opened sum and the charter's optimiser give",
    ),
    "void of another round": (
        "2/void.json",
        changed(round_number=3),
        COORDINATOR,
        "round 2: void: ends round 3",
    ),
    "other bytes": (
        "1/proof/sealed/gamma.json",
        changed(blob="ab" * 32),
        "gamma",
        "round 1: manifest of gamma: signs other bytes than those the receipt says were opened",
    ),
    "another length": (
        "1/proof/sealed/gamma.json",
        lambda body: body | {"length": body["length"] + 1},
        "gamma",
        "round 1: manifest of gamma: states 31 values, the round's updates have 30",
    ),
    "foreign purpose": (
        "1/proof/sealed/gamma.json",
        changed(purpose="metrics"),
        "gamma",
        "round 1: manifest of gamma: the sealed update of gamma was made for another purpose",
    ),
    "release for another set": (
        "1/proof/released/gamma.json",
        changed(cutoff="ab" * 32),
        "gamma",
        "round 1: release of gamma: the release of gamma was made for another cutoff",
    ),
    "receipt after the fact": (
        "3/proof/receipt.json",
        changed(aggregate="ab" * 32),
        KEY_HOLDER,
        "round 3: receipt: is not the one that the record names",
    ),
    "key put forward": (
        "keys/certificates/sealed/00002.json",
        changed(first_round=3),
        KEY_HOLDER,
        "round 3: manifest of alpha: the sealed update of alpha was made for another certificate",
    ),
    "key of none": (
        "keys/certificates/sealed/00001.json",
        changed(first_round=2),
        KEY_HOLDER,
        "round 1: key: certificate 2 for protection sealed does not follow from the one before",
    ),
}


@pytest.mark.parametrize("case", OWN_SIGNATURES)
def test_what_its_own_party_signed_wrongly_is_refused(chain: Chain, case: str) -> None:
    name, change, owner, expected = OWN_SIGNATURES[case]
    chain.sign(name, change, owner)
    assert [line for line in chain.problems if line.startswith(expected)], chain.problems


def test_an_aggregate_needs_the_key_holders_receipt(chain: Chain) -> None:
    """Coordinator and aggregator together replace the sum of the last round, consistently but for one key."""
    aggregate = chain.path("4/proof/aggregate.safetensors")
    values = tensors.decode_any(aggregate.read_bytes())["aggregate"].astype(np.float64)
    values[0] += 1.0
    aggregate.write_bytes(tensors.encode({"aggregate": values}))
    receipt = chain.sign(
        "4/proof/receipt.json", changed(aggregate=digest(aggregate.read_bytes())), COORDINATOR, KEY_HOLDER
    )
    chain.sign("4/round.json", changed(receipt=receipt), COORDINATOR)
    assert chain.problems == (
        "round 4: receipt: the signature of key-holder on a receipt document does not verify",
    )


def test_a_sum_that_gives_no_model_is_refused_whoever_signed_it(chain: Chain) -> None:
    aggregate = chain.path("4/proof/aggregate.safetensors")
    values = tensors.decode_any(aggregate.read_bytes())["aggregate"].astype(np.float64)
    aggregate.write_bytes(tensors.encode({"aggregate": -values}))
    receipt = chain.sign(
        "4/proof/receipt.json", changed(aggregate=digest(aggregate.read_bytes())), KEY_HOLDER
    )
    chain.sign("4/round.json", changed(receipt=receipt), COORDINATOR)
    counted = f"round 4: model: the opened sum must count at least one example, got -{values[-1]:.0f}"
    assert chain.problems == (counted,)


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.zeros(0), np.zeros(3, np.int64)])
def test_an_aggregate_that_is_no_vector_is_refused(chain: Chain, values: Any) -> None:
    aggregate = chain.path("4/proof/aggregate.safetensors")
    aggregate.write_bytes(tensors.encode({"aggregate": values}))
    receipt = chain.sign(
        "4/proof/receipt.json", changed(aggregate=digest(aggregate.read_bytes())), KEY_HOLDER
    )
    chain.sign("4/round.json", changed(receipt=receipt), COORDINATOR)
    assert chain.problems == ("round 4: model: the aggregate is not one vector of floating-point numbers",)
