from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.agreement.ticket import Ticket
from components.agreement.void import check_attempt, is_void, read_void, void_document, void_key
from components.artifacts.documents import digest, sign
from components.artifacts.stores import Store
from components.errors import IntegrityError, RefusedError, SignatureError
from tests.components.agreement.signed_form import CHARTER, KEYS, TICKET, signing_text

FIRST = replace(TICKET, attempt=1, void="")
BODY = {"ticket": FIRST.digest, "round_number": 7, "reason": "too few sites sealed or released"}
VOID = void_document(FIRST.digest, 7, "too few sites sealed or released", KEYS["coordinator"])
SECOND = replace(TICKET, void=digest(VOID))


def signed(body: dict[str, Any], *, by: str = "coordinator", domain: str = "void") -> bytes:
    return sign(KEYS[by], domain=domain, signer=by, body=body)


def refuses(exchange: Store, ticket: Ticket) -> None:
    text = (
        f"attempt {ticket.attempt} of round {ticket.round_number} was opened without a void of the one before"
    )
    with pytest.raises(RefusedError, match=f"^{text}$") as refusal:
        check_attempt(exchange, ticket, CHARTER)
    assert refusal.value.disclosed == text


class TestVoid:
    def test_what_is_signed_is_read(self) -> None:
        assert signed(BODY) == VOID
        assert read_void(VOID, CHARTER) == (FIRST.digest, 7, "too few sites sealed or released")

    @pytest.mark.parametrize("signer", ["alpha", "key-holder", "delta"])
    def test_another_signer_is_refused(self, signer: str) -> None:
        with pytest.raises(SignatureError, match="names another signer"):
            read_void(signed(BODY, by=signer), CHARTER)
        forged = sign(KEYS[signer], domain="void", signer="coordinator", body=BODY)
        with pytest.raises(SignatureError, match="does not verify"):
            read_void(forged, CHARTER)

    @pytest.mark.parametrize("domain", ["ticket", "roster", "round"])
    def test_another_document_is_refused(self, domain: str) -> None:
        with pytest.raises(SignatureError, match="does not verify"):
            read_void(signed(BODY, domain=domain), CHARTER)

    def test_an_altered_bit_is_refused(self) -> None:
        for position in range(len(VOID)):
            altered = bytearray(VOID)
            altered[position] ^= 1
            with pytest.raises(SignatureError):
                read_void(bytes(altered), CHARTER)

    @pytest.mark.parametrize("name", BODY)
    def test_a_missing_field_is_refused(self, name: str) -> None:
        with pytest.raises(SignatureError, match="a void is not in the form this version knows"):
            read_void(signed({key: value for key, value in BODY.items() if key != name}), CHARTER)

    @pytest.mark.parametrize("number", [None, "seven", [7], {}])
    def test_the_round_is_a_number(self, number: object) -> None:
        with pytest.raises(SignatureError, match="a void is not in the form this version knows"):
            read_void(signed(BODY | {"round_number": number}), CHARTER)


class TestAttempts:
    def test_a_first_attempt_needs_no_void(self, exchange: Store) -> None:
        check_attempt(exchange, FIRST, CHARTER)

    def test_a_second_follows_the_void_of_the_first(self, exchange: Store) -> None:
        exchange.create("rounds/00007-1/void.json", VOID)
        check_attempt(exchange, SECOND, CHARTER)
        assert void_key(FIRST.folder) == "rounds/00007-1/void.json"

    def test_a_later_attempt_without_one_is_refused(self, exchange: Store) -> None:
        refuses(exchange, SECOND)
        refuses(exchange, replace(SECOND, attempt=3))
        exchange.create("rounds/00007-1/void.json", VOID)
        refuses(exchange, replace(SECOND, void=""))
        refuses(exchange, replace(SECOND, attempt=3))

    def test_a_first_attempt_that_names_a_void_is_refused(self, exchange: Store) -> None:
        exchange.create("rounds/00007-1/void.json", VOID)
        refuses(exchange, replace(FIRST, void=digest(VOID)))

    @pytest.mark.parametrize(
        "document",
        [
            signed(BODY, by="alpha"),
            sign(KEYS["alpha"], domain="void", signer="coordinator", body=BODY),
            signed(BODY, domain="roster"),
            signed({}),
            b"",
            b"{}",
            VOID[:-1],
        ],
        ids=["signer", "forged", "domain", "form", "empty", "object", "cut"],
    )
    def test_a_forged_void_is_refused(self, exchange: Store, document: bytes) -> None:
        exchange.create("rounds/00007-1/void.json", document)
        refuses(exchange, replace(SECOND, void=digest(document)))

    def test_another_void_than_the_ticket_names_is_refused(self, exchange: Store) -> None:
        exchange.create("rounds/00007-1/void.json", signed(BODY | {"reason": "another"}))
        refuses(exchange, SECOND)

    @pytest.mark.parametrize("number", [6, 8, 0])
    def test_the_void_of_another_round_is_refused(self, exchange: Store, number: int) -> None:
        document = signed(BODY | {"round_number": number})
        exchange.create("rounds/00007-1/void.json", document)
        refuses(exchange, replace(SECOND, void=digest(document)))

    def test_the_void_of_another_attempt_does_not_count_where_it_lies(self, exchange: Store) -> None:
        exchange.create("rounds/00007-1/void.json", VOID)
        refuses(exchange, replace(SECOND, attempt=4))

    def test_the_coordinator_of_an_earlier_edition_may_have_ended_the_attempt_before(
        self, exchange: Store
    ) -> None:
        """Its key was replaced since; the ticket, under the new key, names the void by its digest."""
        renewed = replace(CHARTER, edition=2, previous=CHARTER.digest, coordinator=signing_text("delta"))
        exchange.create("rounds/00007-1/void.json", VOID)
        check_attempt(exchange, SECOND, renewed, [CHARTER])
        with pytest.raises(RefusedError, match="was opened without a void of the one before"):
            check_attempt(exchange, SECOND, renewed)

    def test_an_attempt_is_ended_by_its_own_coordinator_or_a_later_one(self, exchange: Store) -> None:
        renewed = replace(CHARTER, edition=2, previous=CHARTER.digest, coordinator=signing_text("delta"))
        exchange.create("rounds/00007-1/void.json", VOID)
        assert is_void(exchange, FIRST, renewed, CHARTER)
        with pytest.raises(IntegrityError, match="is not the coordinator's for this attempt"):
            is_void(exchange, FIRST, renewed)
