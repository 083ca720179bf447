from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, replace
from typing import Any

import pytest

from components.agreement.ticket import Ticket, charter_named, check_terms, read_ticket, ticket_digest
from components.errors import RefusedError, SignatureError
from tests.components.agreement.signed_form import CHARTER, KEYS, OTHER_TICKETS, TICKET, SignedForm

WHOLE = ("round_number", "attempt", "local_epochs", "batch_size", "seed", "format")
TEXT = ("charter", "federation", "void", "purpose", "model", "previous", "previous_folder", "snapshot")
BOUNDS: dict[str, Any] = {"local_epochs": 5, "learning_rate": 0.25, "batch_size": 64, "round_number": 12}


class TestTicket(SignedForm):
    domain = "ticket"
    signer = "coordinator"
    form = TICKET
    optional = frozenset({"format"})

    def read(self, document: bytes) -> Ticket:
        return read_ticket(document, CHARTER)

    def test_another_federation_is_refused(self) -> None:
        foreign = replace(TICKET, federation="elsewhere")
        with pytest.raises(SignatureError, match=r"^a ticket of elsewhere was given to a party of paper$"):
            self.read(foreign.signed(KEYS["coordinator"]))

    @pytest.mark.parametrize("named", ["", "00" * 32, replace(CHARTER, max_rounds=13).digest])
    def test_another_charter_is_refused(self, named: str) -> None:
        foreign = replace(TICKET, charter=named)
        with pytest.raises(SignatureError, match=f"names charter {named[:12]}, .* is {CHARTER.digest[:12]}$"):
            self.read(foreign.signed(KEYS["coordinator"]))

    @pytest.mark.parametrize("version", [0, 1, 3, -1])
    def test_another_format_is_refused(self, version: int) -> None:
        with pytest.raises(SignatureError, match=f"format {version}, this version knows 2$"):
            self.read(replace(TICKET, format=version).signed(KEYS["coordinator"]))

    @pytest.mark.parametrize("name", WHOLE)
    @pytest.mark.parametrize("value", [1.5, True, "1", None, [1]], ids=repr)
    def test_whole_numbers_are_whole(self, name: str, value: Any) -> None:
        with pytest.raises(SignatureError, match=f"not in the form .*: {name} is of another type$"):
            self.read(self.signed(self.body() | {name: value}))

    @pytest.mark.parametrize("name", TEXT)
    @pytest.mark.parametrize("value", [7, None, ["x"], {}], ids=repr)
    def test_text_is_text(self, name: str, value: Any) -> None:
        with pytest.raises(SignatureError, match=f"not in the form .*: {name} is of another type$"):
            self.read(self.signed(self.body() | {name: value}))

    @pytest.mark.parametrize("value", ["0.1", None, True, [0.1]], ids=repr)
    def test_the_rate_is_a_number(self, value: Any) -> None:
        with pytest.raises(SignatureError, match=r"learning_rate is of another type$"):
            self.read(self.signed(self.body() | {"learning_rate": value}))

    @pytest.mark.parametrize(
        "change",
        [{"round_number": 0}, {"round_number": -1}, {"attempt": 0}, {"attempt": -2}]
        + [{"purpose": purpose} for purpose in ("", "metric", "Update", "update/../x")],
    )
    def test_there_is_no_such_round_attempt_or_purpose(self, change: dict[str, Any]) -> None:
        with pytest.raises(SignatureError, match=r"no such round, attempt or purpose$"):
            self.read(self.signed(self.body() | change))

    @pytest.mark.parametrize("model", ["", "ab" * 31, "AB" * 32, "ab" * 33, "../" * 20 + "abcd", "g" * 64])
    def test_a_model_is_named_by_its_digest(self, model: str) -> None:
        with pytest.raises(SignatureError, match=r"model is not a digest$"):
            self.read(self.signed(self.body() | {"model": model}))

    @pytest.mark.parametrize(
        "folder",
        [
            *("rounds/6-1", "rounds/00006", "rounds/00006-1/", "rounds/00006-", "rounds/../models", "models"),
            *("rounds/00006-1\n", "/rounds/00006-1", "rounds/0000000006-1", "rounds/00006-1000000", " "),
        ],
    )
    def test_the_last_receipt_lies_in_a_folder_of_an_attempt(self, folder: str) -> None:
        with pytest.raises(SignatureError, match=r"previous_folder is not a folder of the exchange$"):
            self.read(self.signed(self.body() | {"previous_folder": folder}))

    @pytest.mark.parametrize("change", [{"previous": ""}, {"previous_folder": ""}])
    def test_the_last_receipt_and_its_folder_belong_together(self, change: dict[str, str]) -> None:
        with pytest.raises(SignatureError, match=r"previous and previous_folder belong together$"):
            self.read(self.signed(self.body() | change))

    @pytest.mark.parametrize(
        "change",
        [
            {"previous": "", "previous_folder": ""},
            {"previous_folder": "rounds/123456789-654321"},
            {"seed": -7},
            {"seed": 2**53 - 1},
        ],
    )
    def test_what_else_is_a_ticket(self, change: dict[str, Any]) -> None:
        ticket = replace(TICKET, **change)
        assert self.read(ticket.signed(KEYS["coordinator"])) == ticket


def test_digest_is_over_the_canonical_body() -> None:
    # For these values sorted, unspaced JSON is the canonical form, but for the exponent's leading zero.
    text = json.dumps(asdict(TICKET), sort_keys=True, separators=(",", ":")).replace("1e-07", "1e-7")
    assert TICKET.digest == hashlib.sha256(text.encode()).hexdigest()


def test_every_field_is_in_the_digest() -> None:
    fields = asdict(TICKET)
    changed = [
        Ticket(**(fields | {name: value + ("0" if isinstance(value, str) else 1)}))
        for name, value in fields.items()
    ]
    assert len({TICKET.digest, *(ticket.digest for ticket in changed)}) == 1 + len(fields)


def test_a_whole_rate_has_the_digest_that_is_read_back() -> None:
    ticket = replace(TICKET, learning_rate=1.0)
    assert read_ticket(ticket.signed(KEYS["coordinator"]), CHARTER).digest == ticket.digest


def test_an_unverified_document_names_its_charter_and_its_digest() -> None:
    """Whoever wrote it: the two are for finding what to verify it with, and for voiding it."""
    for ticket in (TICKET, *OTHER_TICKETS):
        for key in (KEYS["coordinator"], KEYS["delta"]):
            assert charter_named(ticket.signed(key)) == ticket.charter
            assert ticket_digest(ticket.signed(key)) == ticket.digest


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"{", b"\xff", b"[]", b"null", b"7", b"{}", b'{"body":null}', b'{"body":[]}', b"[" * 100_000),
        *(b'{"body":{"charter":null}}', b'{"body":{"charter":7}}', b'{"body":{"charter":["x"]}}'),
    ],
)
def test_a_document_that_names_no_charter_is_refused(document: bytes) -> None:
    with pytest.raises(SignatureError, match=r"^a ticket is not in the form this version knows$"):
        charter_named(document)


@pytest.mark.parametrize(
    "document", [b"", b"{", b"\xff", b"[]", b"null", b"{}", b"[" * 100_000, b'{"body":{"a":NaN}}']
)
def test_what_is_no_document_has_no_digest(document: bytes) -> None:
    with pytest.raises(SignatureError, match=r"^a ticket is not in the form this version knows$"):
        ticket_digest(document)


def changed(**changes: Any) -> Ticket:
    return replace(TICKET, **changes)


class TestTerms:
    def test_what_the_charter_allows_at_most_is_allowed(self) -> None:
        check_terms(TICKET, CHARTER)
        check_terms(replace(TICKET, **BOUNDS), CHARTER)
        for name, most in BOUNDS.items():
            check_terms(replace(TICKET, **{name: most}), CHARTER)

    @pytest.mark.parametrize("name", BOUNDS)
    def test_anything_beyond_is_refused(self, name: str) -> None:
        beyond = BOUNDS[name] + 1 if name != "learning_rate" else math.nextafter(0.25, 1)
        for value in (beyond, 10 * BOUNDS[name], 0, -1):
            with pytest.raises(RefusedError, match=f"allows {name} of at most") as refusal:
                check_terms(changed(**{name: value}), CHARTER)
            assert refusal.value.disclosed == str(refusal.value)

    @pytest.mark.parametrize("rate", [math.inf, -math.inf, math.nan])
    def test_a_rate_that_is_no_number_is_refused(self, rate: float) -> None:
        with pytest.raises(RefusedError, match="allows learning_rate"):
            check_terms(replace(TICKET, learning_rate=rate), CHARTER)


def test_attempts_lie_in_folders_of_their_own() -> None:
    assert TICKET.folder == "rounds/00007-2"
    assert replace(TICKET, attempt=3).folder == "rounds/00007-3"
    assert replace(TICKET, round_number=123456).folder == "rounds/123456-2"
