from __future__ import annotations

import base64
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.commitment import commitment_key, read_commitment
from components.agreement.cutoff import shortfall_key
from components.agreement.private_keys import load_signing_key
from components.agreement.roster import Roster, roster_key
from components.artifacts.documents import digest
from components.errors import QuorumNotReachedError, RefusedError, SignatureError
from components.execution.outcome import Outcome
from components.rounds.roster_call.calling import call_roster
from tests.components.aggregation.three_sites import SITES, ThreeSites, put_in_force
from tests.components.rounds.walks import commit_to, content, seeded_updates, walk

LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
Update = tuple[NDArray[np.float64], int]
protections = pytest.mark.parametrize("protection", ["none", "he", "sealed"])


@pytest.fixture
def three(home: Path) -> ThreeSites:
    return walk("open", "none").three


def call(three: ThreeSites, commitments: dict[str, str], reasons: dict[str, str] | None = None) -> Outcome:
    return call_roster(
        commitments,
        reasons or dict.fromkeys(three.sites, ""),
        ticket=three.opened.reference,
        exchange_uri=three.exchange_uri,
        keys_uri=three.keys_uri,
    )


def some(*sites: str) -> dict[str, Update]:
    updates = seeded_updates()
    return {site: updates[site] for site in sites}


def commitment_of(three: ThreeSites, site: str) -> bytes:
    return three.exchange.read(commitment_key(three.opened.ticket, site))


def test_fixes_who_takes_part_and_to_what_they_are_bound(three: ThreeSites) -> None:
    commitments = commit_to(three, some("alpha", "gamma"))
    outcome = call(three, commitments, {"alpha": "", "beta": "oom", "gamma": ""})
    assert outcome.reference == "small/exchange/rounds/00001-1/roster.json"
    assert outcome.manifest == {"sites": ["alpha", "gamma"], "left_out": {"beta": "oom"}}
    assert outcome.metrics == {"sites": 2.0}
    roster = three.attempt().roster()
    assert roster.left_out == {"beta": "oom"}
    assert (roster.charter, roster.ticket) == (three.charter.digest, three.opened.ticket.digest)
    assert roster.commitments == {site: digest(commitment_of(three, site)) for site in ("alpha", "gamma")}


@protections
def test_everybody_who_committed_is_on_it(protection: str) -> None:
    walked = walk("called", protection)
    roster = walked.three.attempt().roster()
    assert roster.sites == SITES
    ephemeral = {
        read_commitment(
            commitment_of(walked.three, site), walked.three.opened.ticket, site, walked.three.charter
        ).ephemeral
        for site in SITES
    }
    assert len(ephemeral) == 3


class TestQuorum:
    @pytest.mark.parametrize(("sites", "least"), [((), 2), (("beta",), 2), (("alpha", "beta"), 3)])
    def test_below_it_nothing_is_written(self, sites: tuple[str, ...], least: int) -> None:
        three = ThreeSites.start(min_sites=least)
        commitments = commit_to(three, some(*sites))
        reasons = {"alpha": "unreachable: warehouse", "gamma": "timeout: train did not end within 60 s"}
        before = content(three.exchange_uri)
        with pytest.raises(QuorumNotReachedError) as refusal:
            call(three, commitments, reasons)
        assert content(three.exchange_uri) == before
        message = str(refusal.value)
        assert message.startswith(f"round 1: {len(sites)} of 3 sites can take part, the quorum is {least}. ")
        assert "gamma: timeout: train did not end within 60 s" in message
        assert ("alpha: unreachable: warehouse" in message) == ("alpha" not in sites)
        assert ("beta: failed: nothing was heard of the site" in message) == ("beta" not in sites)

    def test_under_sealed_it_is_three_at_the_least(self) -> None:
        walked = walk("trained", "sealed")
        with pytest.raises(QuorumNotReachedError, match="2 of 3 sites can take part, the quorum is 3"):
            call(walked.three, walked.commitments | {"beta": ""})
        assert call(walked.three, walked.commitments).manifest["sites"] == list(SITES)

    def test_at_it_the_round_goes_on_and_can_be_tried_again_below_it(self, three: ThreeSites) -> None:
        with pytest.raises(QuorumNotReachedError):
            call(three, commit_to(three, some("beta")))
        commitments = commit_to(three, some("alpha", "beta"))
        assert call(three, commitments).manifest["sites"] == ["alpha", "beta"]
        assert three.next_attempt().opened == three.opened

    def test_is_that_of_the_tickets_charter(self, three: ThreeSites) -> None:
        """A later edition counts for later tickets; a run cannot bring a lower one along."""
        edition = replace(three.charter, edition=2, previous=three.charter.digest, min_sites=3)
        commitments = commit_to(three, some("alpha", "beta"))
        put_in_force("small", edition)
        assert call(three, commitments).manifest["sites"] == ["alpha", "beta"]
        later = three.next_attempt()
        with pytest.raises(QuorumNotReachedError, match="the quorum is 3"):
            call(later, commit_to(later, some("alpha", "beta")))


def test_the_first_roster_stands(three: ThreeSites) -> None:
    everybody = commit_to(three, seeded_updates())
    first = call(three, everybody | {"gamma": ""}, {"gamma": "timeout"})
    document = three.exchange.read(roster_key(three.opened.ticket))
    nobody = dict.fromkeys(everybody, "")
    assert call(three, everybody) == first
    assert call(three, nobody, dict.fromkeys(nobody, "oom")) == first
    assert three.exchange.read(roster_key(three.opened.ticket)) == document


def test_a_site_the_charter_does_not_name_is_ignored(three: ThreeSites) -> None:
    commitments = commit_to(three, seeded_updates())
    outcome = call(three, commitments | {"delta": "small/exchange/delta.json"}, {"delta": "oom"})
    assert outcome.manifest == {"sites": list(SITES), "left_out": {}}


class TestWhatASiteUploads:
    def replaced(self, three: ThreeSites, document: bytes) -> str:
        """Beta's commitment is another document; what the roster says of beta."""
        commitments = commit_to(three, some("alpha", "gamma"))
        three.exchange.create(commitment_key(three.opened.ticket, "beta"), document)
        outcome = call(three, commitments | {"beta": "small/exchange/whatever"})
        assert outcome.manifest["sites"] == ["alpha", "gamma"]
        assert three.attempt().roster().sites == ("alpha", "gamma")
        reason: str = outcome.manifest["left_out"]["beta"]
        return reason

    def test_a_commitment_of_the_attempt_before_is_left_out(self, three: ThreeSites) -> None:
        commit_to(three, seeded_updates())
        replayed = commitment_of(three, "beta")
        three.exchange.create(shortfall_key(three.opened.ticket), b"{}")
        second = three.next_attempt()
        assert second.opened.ticket.attempt == 2
        assert (
            self.replaced(second, replayed) == "refused: the commitment of beta was made for another ticket"
        )

    def test_a_commitment_of_the_round_before_is_left_out(self) -> None:
        first = walk("committed", "none").three
        replayed = commitment_of(first, "beta")
        reason = self.replaced(first.next_round(), replayed)
        assert reason == "refused: the commitment of beta was made for another ticket"

    @pytest.mark.parametrize("site", ["alpha", "beta"])
    def test_a_commitment_that_another_site_signed_is_left_out(self, three: ThreeSites, site: str) -> None:
        commit_to(three, some("alpha"))
        made = read_commitment(commitment_of(three, "alpha"), three.opened.ticket, "alpha", three.charter)
        forged = replace(made, site=site).signed(load_signing_key(three.keys_uri, "alpha"))
        assert self.replaced(three, forged).startswith("refused: ")

    @pytest.mark.parametrize(
        "document",
        [b"", b"no json", b"{}", b"[" * 60_000, b'{"body":' * 990, bytes((1 << 16) + 1)],
        ids=["empty", "text", "form", "deep", "nested", "large"],
    )
    def test_never_ends_the_round_of_the_others(self, three: ThreeSites, document: bytes) -> None:
        assert self.replaced(three, document)

    @pytest.mark.parametrize(
        "change",
        [
            {"ephemeral": "AAAA"},
            {"ephemeral": 5},
            {"ephemeral": None},
            {"charter": "0" * 64},
        ],
        ids=str,
    )
    def test_that_it_signed_and_that_is_no_commitment_is_left_out(
        self, three: ThreeSites, change: dict[str, Any]
    ) -> None:
        commit_to(three, some("beta"))
        made = read_commitment(commitment_of(three, "beta"), three.opened.ticket, "beta", three.charter)
        (three.exchange_folder / commitment_key(three.opened.ticket, "beta")).unlink()
        assert self.replaced(three, replace(made, **change).signed(three.place("beta").key)).startswith(
            "refused"
        )

    def test_that_is_not_there_is_left_out(self, three: ThreeSites) -> None:
        commitments = commit_to(three, some("alpha", "gamma"))
        outcome = call(three, commitments | {"beta": "small/exchange/promised"})
        assert outcome.manifest["left_out"] == {"beta": "unreachable: a store (ObjectMissingError)"}

    @pytest.mark.parametrize("ephemeral", ["none", "gamma's", "gamma's in other letters", "low order"])
    def test_an_ephemeral_key_that_nobody_can_seal_beside_is_left_out(self, ephemeral: str) -> None:
        """It is signed by its site; nobody's keys come out of it, or those of two sites."""
        three = ThreeSites.start(
            protection="sealed", sites=("alpha", "beta", "delta", "epsilon", "gamma"), colluding_sites=0
        )
        ticket, commitments = three.opened.ticket, three.train()
        made = read_commitment(commitment_of(three, "beta"), ticket, "beta", three.charter)
        copied = read_commitment(commitment_of(three, "gamma"), ticket, "gamma", three.charter).ephemeral
        # The last letter of 32 bytes in base64 has two bits to spare.
        respelled = f"{copied[:42]}{LETTERS[LETTERS.index(copied[42]) + 1]}="
        assert base64.b64decode(respelled) == base64.b64decode(copied)
        values = {"none": "", "low order": "A" * 43 + "="}
        values |= {"gamma's": copied, "gamma's in other letters": respelled}
        path = three.exchange_folder / commitment_key(ticket, "beta")
        path.write_bytes(replace(made, ephemeral=values[ephemeral]).signed(three.place("beta").key))
        outcome = call(three, commitments)
        if ephemeral.startswith("gamma's"):
            # Nobody can tell whose it was first.
            reason = "refused: two sites have committed with the same ephemeral key"
            assert outcome.manifest["left_out"] == {"beta": reason, "gamma": reason}
        else:
            assert outcome.manifest["left_out"] == {"beta": "refused: its ephemeral key is unusable"}
        assert set(outcome.manifest["sites"]) == set(three.sites) - set(outcome.manifest["left_out"])
        three.open_sum(three.summed(three.seal(outcome.reference, outcome.manifest["sites"])))

    @pytest.mark.parametrize("protection", ["none", "he"])
    def test_an_ephemeral_key_that_nobody_seals_with_leaves_nobody_out(self, protection: str) -> None:
        walked = walk("trained", protection)
        three, ticket = walked.three, walked.three.opened.ticket
        made = read_commitment(commitment_of(three, "beta"), ticket, "beta", three.charter)
        copied = read_commitment(commitment_of(three, "gamma"), ticket, "gamma", three.charter).ephemeral
        path = three.exchange_folder / commitment_key(ticket, "beta")
        path.write_bytes(replace(made, ephemeral=copied).signed(three.place("beta").key))
        assert call(three, walked.commitments).manifest == {"sites": list(SITES), "left_out": {}}


def test_a_ticket_that_is_not_the_coordinators_is_refused(three: ThreeSites) -> None:
    commitments = commit_to(three, seeded_updates())
    forged = replace(three.opened.ticket, model="00" * 32).signed(load_signing_key(three.keys_uri, "alpha"))
    three.exchange.create("forged.json", forged)
    before = content(three.exchange_uri)
    for reference, error in (
        ("small/exchange/forged.json", SignatureError),
        ("elsewhere/ticket.json", RefusedError),
    ):
        with pytest.raises(error):
            call(replace(three, opened=replace(three.opened, reference=reference)), commitments)
    assert content(three.exchange_uri) == before


def test_a_roster_that_was_put_there_by_somebody_else_is_refused(three: ThreeSites) -> None:
    commitments = commit_to(three, seeded_updates())
    ticket = three.opened.ticket
    roster = Roster(charter=ticket.charter, ticket=ticket.digest, commitments={}, left_out={})
    three.exchange.create(roster_key(ticket), roster.signed(load_signing_key(three.keys_uri, "alpha")))
    with pytest.raises(SignatureError):
        call(three, commitments)
