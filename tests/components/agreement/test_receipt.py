from __future__ import annotations

from dataclasses import replace

import pytest

from components.agreement.receipt import Receipt, aggregate_key, read_aggregate, read_receipt, receipt_key
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, ObjectMissingError, SignatureError
from tests.components.agreement.signed_form import KEYS, OTHER_TICKETS, PARTIES, ROSTER, TICKET, SignedForm

AGGREGATE = b"opened values"
RECEIPT = Receipt(
    ticket=TICKET.digest,
    roster=ROSTER.digest,
    purpose=TICKET.purpose,
    members=("alpha", "gamma"),
    sealed_sum="5e" * 32,
    aggregate=digest(AGGREGATE),
    previous=TICKET.previous,
)


class TestReceipt(SignedForm):
    domain = "receipt"
    signer = "key-holder"
    form = RECEIPT

    def read(self, document: bytes) -> Receipt:
        return read_receipt(document, TICKET, PARTIES)

    @pytest.mark.parametrize(
        "change",
        [
            *({"ticket": ticket.digest} for ticket in OTHER_TICKETS),
            {"purpose": "metrics"},
            {"previous": ""},
            {"previous": "ce" * 32},
        ],
    )
    def test_a_receipt_of_another_ticket_or_chain_is_refused(self, change: dict[str, str]) -> None:
        with pytest.raises(SignatureError, match="rounds/00007-2 was given for another ticket"):
            self.read(self.signed(self.body() | change))

    @pytest.mark.parametrize("members", [None, 2])
    def test_members_must_be_a_list(self, members: object) -> None:
        with pytest.raises(SignatureError, match="not in the form"):
            self.read(self.signed(self.body() | {"members": members}))


def test_the_aggregate_is_the_one_the_receipt_signs(exchange: Store) -> None:
    with pytest.raises(ObjectMissingError):
        read_aggregate(exchange, TICKET, RECEIPT)
    exchange.create(aggregate_key(TICKET), AGGREGATE)
    assert read_aggregate(exchange, TICKET, RECEIPT) == AGGREGATE
    with pytest.raises(DigestMismatchError, match="not the one its receipt signs"):
        read_aggregate(exchange, TICKET, replace(RECEIPT, aggregate=digest(AGGREGATE + b"\0")))


def test_an_aggregate_altered_by_a_bit_is_refused(exchange: Store) -> None:
    for bit in range(8 * len(AGGREGATE)):
        altered = bytearray(AGGREGATE)
        altered[bit // 8] ^= 1 << bit % 8
        ticket = replace(TICKET, round_number=100 + bit)
        exchange.create(aggregate_key(ticket), bytes(altered))
        with pytest.raises(DigestMismatchError):
            read_aggregate(exchange, ticket, RECEIPT)


def test_lies_in_the_folder_of_its_attempt() -> None:
    assert receipt_key(TICKET) == "rounds/00007-2/receipt.json"
    assert aggregate_key(TICKET) == "rounds/00007-2/aggregate.safetensors"
    assert RECEIPT.signed(KEYS["key-holder"]) == RECEIPT.signed(KEYS["key-holder"])
