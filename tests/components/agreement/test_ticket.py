from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace

import pytest

from components.agreement.ticket import Ticket, read_ticket
from components.errors import SignatureError
from tests.components.agreement.signed_form import KEYS, PARTIES, SITES, TICKET, SignedForm


class TestTicket(SignedForm):
    domain = "ticket"
    signer = "coordinator"
    form = TICKET
    optional = frozenset({"format"})

    def read(self, document: bytes) -> Ticket:
        return read_ticket(document, PARTIES)

    def test_another_federation_is_refused(self) -> None:
        foreign = replace(TICKET, federation="elsewhere")
        with pytest.raises(SignatureError, match="of elsewhere was given to a party of paper"):
            self.read(foreign.signed(KEYS["coordinator"]))

    @pytest.mark.parametrize("version", [0, 2, -1])
    def test_another_format_is_refused(self, version: int) -> None:
        with pytest.raises(SignatureError, match=f"has format {version}, this version knows 1"):
            self.read(replace(TICKET, format=version).signed(KEYS["coordinator"]))

    @pytest.mark.parametrize("sites", [None, 3])
    def test_sites_must_be_a_list(self, sites: object) -> None:
        with pytest.raises(SignatureError, match="not in the form"):
            self.read(self.signed(self.body() | {"sites": sites}))


def test_digest_is_over_the_canonical_body() -> None:
    body = asdict(TICKET) | {"sites": list(SITES)}
    # For these values sorted, unspaced JSON is the canonical form, but for the exponent's leading zero.
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).replace("1e-07", "1e-7")
    assert TICKET.digest == hashlib.sha256(text.encode()).hexdigest()


def test_every_field_is_in_the_digest() -> None:
    others = {
        "federation": "other",
        "round_number": 8,
        "attempt": 3,
        "purpose": "metrics",
        "protection": "none",
        "sites": SITES[:2],
        "model": "00" * 32,
        "previous": "",
        "snapshot": "2026-11-23T10:00:00+00:00",
        "local_epochs": 3,
        "learning_rate": 0.2,
        "batch_size": 17,
        "seed": 4,
        "format": 2,
    }
    assert set(others) == set(asdict(TICKET))
    changed = [Ticket(**(asdict(TICKET) | {name: value})) for name, value in others.items()]
    assert len({TICKET.digest, *(ticket.digest for ticket in changed)}) == 1 + len(others)


def test_a_whole_rate_has_the_digest_that_is_read_back() -> None:
    ticket = replace(TICKET, learning_rate=1.0)
    assert read_ticket(ticket.signed(KEYS["coordinator"]), PARTIES).digest == ticket.digest


def test_attempts_lie_in_folders_of_their_own() -> None:
    assert TICKET.folder == "rounds/00007-2"
    assert replace(TICKET, attempt=3).folder == "rounds/00007-3"
