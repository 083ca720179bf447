from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from components.agreement.commitment import Commitment, commitment_key
from components.agreement.roster import Roster, read_commitments, read_roster, roster_key
from components.artifacts.documents import digest
from components.errors import SignatureError
from tests.components.agreement.signed_form import (
    CHARTER,
    KEYS,
    OTHER_TICKETS,
    ROSTER,
    SITES,
    TICKET,
    Held,
    SignedForm,
)


class TestRoster(SignedForm):
    domain = "roster"
    signer = "coordinator"
    form = ROSTER

    def read(self, document: bytes) -> Roster:
        return read_roster(document, TICKET, CHARTER)

    def test_a_replay_from_another_ticket_is_refused(self) -> None:
        for ticket in OTHER_TICKETS:
            replayed = replace(ROSTER, ticket=ticket.digest, charter=ticket.charter)
            with pytest.raises(SignatureError, match="rounds/00007-2 was made for another ticket"):
                self.read(replayed.signed(KEYS["coordinator"]))

    def test_another_charter_is_refused(self) -> None:
        with pytest.raises(SignatureError, match="was made for another ticket"):
            self.read(replace(ROSTER, charter="00" * 32).signed(KEYS["coordinator"]))

    @pytest.mark.parametrize("stranger", ["delta", "alpha2", "", "coordinator", "key-holder"])
    def test_a_site_that_the_charter_does_not_name_is_refused(self, stranger: str) -> None:
        sybil = replace(ROSTER, commitments={**ROSTER.commitments, stranger: "d1" * 32})
        with pytest.raises(SignatureError, match=f"names {stranger}, which the charter does not$"):
            self.read(sybil.signed(KEYS["coordinator"]))

    @pytest.mark.parametrize("commitments", [None, 7, True, [["alpha"]], ["alpha"], []], ids=repr)
    def test_commitments_are_by_site(self, commitments: object) -> None:
        for name in ("commitments", "left_out"):
            with pytest.raises(SignatureError, match="a roster is not in the form this version knows"):
                self.read(self.signed(self.body() | {name: commitments}))

    def test_nobody_on_it_is_for_the_quorum_to_refuse(self) -> None:
        assert self.read(replace(ROSTER, commitments={}).signed(KEYS["coordinator"])).sites == ()


def test_digest_is_over_charter_ticket_and_commitments() -> None:
    body = {
        "charter": CHARTER.digest,
        "commitments": {"alpha": "a1" * 32, "gamma": "a3" * 32},
        "ticket": TICKET.digest,
    }
    text = json.dumps(body, separators=(",", ":"))
    assert ROSTER.digest == hashlib.sha256(text.encode()).hexdigest()


def test_digest_binds_what_is_agreed_and_nothing_else() -> None:
    commitments = dict(ROSTER.commitments)
    others = [
        replace(ROSTER, charter="00" * 32),
        replace(ROSTER, ticket=OTHER_TICKETS[0].digest),
        replace(ROSTER, commitments={"alpha": commitments["alpha"]}),
        replace(ROSTER, commitments=commitments | {"beta": "a2" * 32}),
        replace(ROSTER, commitments=commitments | {"alpha": "a2" * 32}),
        replace(ROSTER, commitments={"alpha": commitments["gamma"], "gamma": commitments["alpha"]}),
    ]
    assert len({ROSTER.digest, *(other.digest for other in others)}) == 7
    backwards = dict(reversed(commitments.items()))
    assert replace(ROSTER, commitments=backwards, left_out={}).digest == ROSTER.digest


def test_sites_are_sorted() -> None:
    roster = replace(ROSTER, commitments={"gamma": "", "alpha": ""})
    assert roster.sites == ("alpha", "gamma")
    assert roster_key(TICKET) == "rounds/00007-2/roster.json"


def committed(site: str, text: str = "", *, by: str = "", **changes: Any) -> bytes:
    form = Commitment(
        charter=TICKET.charter,
        ticket=TICKET.digest,
        site=site,
        ephemeral="",
        commitment=text or hashlib.sha256(site.encode()).hexdigest(),
    )
    return replace(form, **changes).signed(KEYS[by or site])


DOCUMENTS = {site: committed(site) for site in SITES}
CALLED = replace(ROSTER, commitments={site: digest(document) for site, document in DOCUMENTS.items()})


def found(documents: Mapping[str, bytes], roster: Roster = CALLED) -> dict[str, Commitment]:
    exchange = Held({commitment_key(TICKET, site): document for site, document in documents.items()})
    return read_commitments(exchange, TICKET, roster, CHARTER)


class TestCommitments:
    def test_are_those_that_the_roster_names(self) -> None:
        assert {site: each.site for site, each in found(DOCUMENTS).items()} == dict(
            zip(SITES, SITES, strict=True)
        )
        two = replace(CALLED, commitments={site: CALLED.commitments[site] for site in ("alpha", "gamma")})
        assert list(found(DOCUMENTS, two)) == ["alpha", "gamma"]

    @pytest.mark.parametrize("site", SITES)
    def test_a_missing_one_is_refused(self, site: str) -> None:
        others = {name: document for name, document in DOCUMENTS.items() if name != site}
        with pytest.raises(SignatureError, match=f"^the roster names {site}, whose commitment is not there$"):
            found(others)

    @pytest.mark.parametrize("site", SITES)
    def test_another_one_of_the_same_site_is_refused(self, site: str) -> None:
        with pytest.raises(SignatureError, match=f"^the commitment of {site} is not the one on the roster$"):
            found(DOCUMENTS | {site: committed(site, "00" * 32)})

    def test_swapped_documents_are_refused(self) -> None:
        swapped = DOCUMENTS | {"alpha": DOCUMENTS["beta"], "beta": DOCUMENTS["alpha"]}
        with pytest.raises(SignatureError, match="of alpha is not the one on the roster"):
            found(swapped)
        names = {site: digest(document) for site, document in swapped.items()}
        with pytest.raises(SignatureError, match="should be alpha's names another signer"):
            found(swapped, replace(CALLED, commitments=names))

    def test_swapped_digests_are_refused(self) -> None:
        names = CALLED.commitments
        roster = replace(CALLED, commitments={**names, "alpha": names["gamma"], "gamma": names["alpha"]})
        with pytest.raises(SignatureError, match="of alpha is not the one on the roster"):
            found(DOCUMENTS, roster)

    def test_one_sites_commitment_under_another_name_is_refused(self) -> None:
        """Else one site could stand for two where sites are counted."""
        twice = replace(CALLED, commitments={**CALLED.commitments, "beta": CALLED.commitments["alpha"]})
        with pytest.raises(SignatureError, match="should be beta's names another signer"):
            found(DOCUMENTS | {"beta": DOCUMENTS["alpha"]}, twice)

    @pytest.mark.parametrize("forger", ["alpha", "coordinator", "delta"])
    def test_a_commitment_that_its_site_did_not_sign_is_refused(self, forger: str) -> None:
        forged = committed("beta", by=forger)
        roster = replace(CALLED, commitments={**CALLED.commitments, "beta": digest(forged)})
        with pytest.raises(SignatureError, match="the signature of beta on a commitment document"):
            found(DOCUMENTS | {"beta": forged}, roster)

    def test_one_of_another_ticket_is_refused(self) -> None:
        for ticket in OTHER_TICKETS:
            replayed = committed("beta", ticket=ticket.digest, charter=ticket.charter)
            roster = replace(CALLED, commitments={**CALLED.commitments, "beta": digest(replayed)})
            with pytest.raises(SignatureError, match="of beta was made for another ticket"):
                found(DOCUMENTS | {"beta": replayed}, roster)
