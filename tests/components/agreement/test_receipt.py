from __future__ import annotations

from dataclasses import replace

import pytest

from components.agreement.receipt import Receipt, aggregate_key, read_aggregate, read_receipt, receipt_key
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, ObjectMissingError, SignatureError
from tests.components.agreement.signed_form import (
    CHARTER,
    KEYS,
    OTHER_TICKETS,
    ROSTER,
    TICKET,
    Held,
    SignedForm,
)

AGGREGATE = b"opened values"
RECEIPT = Receipt(
    charter=CHARTER.digest,
    ticket=TICKET.digest,
    roster=ROSTER.digest,
    cutoff="0d" * 32,
    purpose=TICKET.purpose,
    certificate="ce" * 32,
    ciphertexts={"alpha": "b1" * 32, "gamma": "b3" * 32},
    sealed_sum="5e" * 32,
    aggregate=digest(AGGREGATE),
    previous=TICKET.previous,
)


class TestReceipt(SignedForm):
    domain = "receipt"
    signer = "key-holder"
    form = RECEIPT

    def read(self, document: bytes) -> Receipt:
        return read_receipt(document, TICKET, CHARTER)

    @pytest.mark.parametrize(
        "change",
        [
            *({"ticket": ticket.digest} for ticket in OTHER_TICKETS),
            {"charter": "00" * 32},
            {"purpose": "metrics"},
            {"previous": ""},
            {"previous": "ce" * 32},
            {"previous": None},
        ],
    )
    def test_a_receipt_of_another_ticket_or_chain_is_refused(self, change: dict[str, str]) -> None:
        with pytest.raises(
            SignatureError, match=r"rounds/00007-2 was given for another ticket|is not in the form"
        ):
            self.read(self.signed(self.body() | change))

    @pytest.mark.parametrize("stranger", ["delta", "coordinator", ""])
    def test_a_member_that_the_charter_does_not_name_is_refused(self, stranger: str) -> None:
        members = {"ciphertexts": {**RECEIPT.ciphertexts, stranger: "b4" * 32}}
        with pytest.raises(SignatureError, match="was given for another ticket"):
            self.read(self.signed(self.body() | members))

    @pytest.mark.parametrize("members", [None, 2, True, [["alpha"]], ["alpha"], []])
    def test_ciphertexts_are_by_site(self, members: object) -> None:
        with pytest.raises(SignatureError, match="not in the form"):
            self.read(self.signed(self.body() | {"ciphertexts": members}))


def test_members_are_sorted() -> None:
    backwards = dict(reversed(list(RECEIPT.ciphertexts.items())))
    assert replace(RECEIPT, ciphertexts=backwards).members == ("alpha", "gamma")


def test_the_aggregate_is_the_one_the_receipt_signs(exchange: Store) -> None:
    with pytest.raises(ObjectMissingError):
        read_aggregate(exchange, TICKET.folder, RECEIPT)
    exchange.create(aggregate_key(TICKET.folder), AGGREGATE)
    assert read_aggregate(exchange, TICKET.folder, RECEIPT) == AGGREGATE
    with pytest.raises(DigestMismatchError, match="not the one its receipt signs"):
        read_aggregate(exchange, TICKET.folder, replace(RECEIPT, aggregate=digest(AGGREGATE + b"\0")))


def test_an_aggregate_altered_by_a_bit_is_refused() -> None:
    for bit in range(8 * len(AGGREGATE)):
        altered = bytearray(AGGREGATE)
        altered[bit // 8] ^= 1 << bit % 8
        exchange = Held({aggregate_key(TICKET.folder): bytes(altered)})
        with pytest.raises(DigestMismatchError, match="aggregate in rounds/00007-2 is not the one"):
            read_aggregate(exchange, TICKET.folder, RECEIPT)


def test_lies_in_the_folder_of_its_attempt() -> None:
    assert receipt_key(TICKET.folder) == "rounds/00007-2/receipt.json"
    assert aggregate_key(TICKET.folder) == "rounds/00007-2/aggregate.safetensors"
    assert RECEIPT.signed(KEYS["key-holder"]) == RECEIPT.signed(KEYS["key-holder"])
