from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from components.agreement.roster import Roster, read_roster, roster_key
from components.errors import SignatureError
from tests.components.agreement.signed_form import KEYS, OTHER_TICKETS, PARTIES, ROSTER, TICKET, SignedForm


class TestRoster(SignedForm):
    domain = "roster"
    signer = "coordinator"
    form = ROSTER

    def read(self, document: bytes) -> Roster:
        return read_roster(document, TICKET, PARTIES)

    def test_a_replay_from_another_ticket_is_refused(self) -> None:
        for ticket in OTHER_TICKETS:
            replayed = replace(ROSTER, ticket=ticket.digest).signed(KEYS["coordinator"])
            with pytest.raises(SignatureError, match="rounds/00007-2 was made for another ticket"):
                self.read(replayed)


def test_digest_is_over_ticket_and_commitments() -> None:
    body = {"commitments": {"alpha": "a1" * 32, "gamma": "a3" * 32}, "ticket": TICKET.digest}
    text = json.dumps(body, separators=(",", ":"))
    assert ROSTER.digest == hashlib.sha256(text.encode()).hexdigest()


def test_digest_binds_what_is_agreed_and_nothing_else() -> None:
    commitments = dict(ROSTER.commitments)
    others = [
        replace(ROSTER, ticket=OTHER_TICKETS[0].digest),
        replace(ROSTER, commitments={"alpha": commitments["alpha"]}),
        replace(ROSTER, commitments=commitments | {"beta": "a2" * 32}),
        replace(ROSTER, commitments=commitments | {"alpha": "a2" * 32}),
        replace(ROSTER, commitments={"alpha": commitments["gamma"], "gamma": commitments["alpha"]}),
    ]
    assert len({ROSTER.digest, *(other.digest for other in others)}) == 6
    backwards = dict(reversed(commitments.items()))
    assert replace(ROSTER, commitments=backwards, left_out={}).digest == ROSTER.digest


def test_sites_are_sorted() -> None:
    roster = replace(ROSTER, commitments={"gamma": "", "alpha": ""})
    assert roster.sites == ("alpha", "gamma")
    assert roster_key(TICKET) == "rounds/00007-2/roster.json"
