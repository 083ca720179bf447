from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from components.agreement.commitment import commit, commitment_key
from components.agreement.cutoff import shortfall_key
from components.agreement.parties import load_parties, load_signing_key
from components.agreement.roster import Roster, read_roster, roster_key
from components.errors import QuorumNotReachedError, RefusedError, SignatureError
from components.rounds.round_opening.opening import OpenedRound

if TYPE_CHECKING:
    from tests.components.rounds.conftest import Update, WalkedFederation

    Updates = dict[str, Update]


@pytest.fixture
def opened(federation: WalkedFederation) -> OpenedRound:
    return federation.open()


def roster_of(federation: WalkedFederation, opened: OpenedRound) -> Roster:
    document = federation.exchange.read(roster_key(opened.ticket))
    return read_roster(document, opened.ticket, load_parties("keys"))


def some(updates: Updates, *sites: str) -> Updates:
    return {site: updates[site] for site in sites}


def test_fixes_who_takes_part_and_to_what_they_are_bound(
    federation: WalkedFederation, opened: OpenedRound, updates: Updates
) -> None:
    commitments = federation.commit_to(opened, some(updates, "alpha", "gamma"))
    reasons = {"alpha": "", "beta": "oom", "gamma": ""}
    outcome = federation.call(opened, commitments, reasons)
    assert outcome.reference == "exchange/rounds/00001-1/roster.json"
    assert outcome.manifest == {"sites": ["alpha", "gamma"], "left_out": {"beta": "oom"}}
    assert outcome.metrics == {"sites": 2.0}
    roster = roster_of(federation, opened)
    assert roster.left_out == {"beta": "oom"}
    for site in ("alpha", "gamma"):
        values, num_examples = updates[site]
        content = num_examples.to_bytes(8, "little") + values.tobytes()
        assert roster.commitments[site] == commit(opened.ticket, site, bytes(32), content).commitment


@pytest.mark.parametrize(("sites", "min_sites"), [((), 1), (("beta",), 2), (("alpha", "beta"), 3)])
def test_below_the_quorum_nothing_is_written(
    federation: WalkedFederation,
    opened: OpenedRound,
    updates: Updates,
    sites: tuple[str, ...],
    min_sites: int,
) -> None:
    commitments = federation.commit_to(opened, some(updates, *sites))
    reasons = {"alpha": "unreachable: warehouse", "gamma": "timeout: train did not end within 60 s"}
    before = federation.content("exchange")
    with pytest.raises(QuorumNotReachedError) as refusal:
        federation.call(opened, commitments, reasons, min_sites=min_sites)
    assert federation.content("exchange") == before
    message = str(refusal.value)
    assert message.startswith(f"round 1: {len(sites)} of 3 sites can take part, the quorum is {min_sites}. ")
    assert "gamma: timeout: train did not end within 60 s" in message
    assert ("alpha: unreachable: warehouse" in message) == ("alpha" not in sites)
    assert ("beta: failed: nothing was heard of the site" in message) == ("beta" not in sites)


def test_at_the_quorum_the_round_goes_on_and_can_be_tried_again_below_it(
    federation: WalkedFederation, opened: OpenedRound, updates: Updates
) -> None:
    with pytest.raises(QuorumNotReachedError):
        federation.call(opened, federation.commit_to(opened, some(updates, "beta")))
    commitments = federation.commit_to(opened, some(updates, "alpha", "beta"))
    assert federation.call(opened, commitments).manifest["sites"] == ["alpha", "beta"]


def test_the_first_roster_stands(federation: WalkedFederation, opened: OpenedRound, updates: Updates) -> None:
    first = federation.call(opened, federation.commit_to(opened, some(updates, "alpha", "beta")))
    document = federation.exchange.read(roster_key(opened.ticket))
    everybody = federation.commit_to(opened, updates)
    nobody = dict.fromkeys(everybody, "")
    assert federation.call(opened, everybody) == first
    assert federation.call(opened, nobody, dict.fromkeys(nobody, "oom"), min_sites=3) == first
    assert federation.exchange.read(roster_key(opened.ticket)) == document


def test_a_site_the_ticket_does_not_name_is_ignored(
    federation: WalkedFederation, opened: OpenedRound, updates: Updates
) -> None:
    commitments = federation.commit_to(opened, updates) | {"delta": "exchange/rounds/00001-1/delta.json"}
    outcome = federation.call(opened, commitments, {"delta": "oom"})
    assert outcome.manifest == {"sites": ["alpha", "beta", "gamma"], "left_out": {}}


def replaced(federation: WalkedFederation, opened: OpenedRound, updates: Updates, document: bytes) -> str:
    """Beta's commitment is another document; what the roster says of beta."""
    commitments = federation.commit_to(opened, some(updates, "alpha", "gamma"))
    federation.exchange.create(commitment_key(opened.ticket, "beta"), document)
    outcome = federation.call(opened, commitments | {"beta": "exchange/whatever"})
    assert outcome.manifest["sites"] == ["alpha", "gamma"]
    assert roster_of(federation, opened).sites == ("alpha", "gamma")
    reason: str = outcome.manifest["left_out"]["beta"]
    return reason


def test_a_commitment_of_the_attempt_before_is_left_out(
    federation: WalkedFederation, opened: OpenedRound, updates: Updates
) -> None:
    federation.commit_to(opened, updates)
    replayed = federation.exchange.read(commitment_key(opened.ticket, "beta"))
    federation.exchange.create(shortfall_key(opened.ticket), b"{}")
    second = federation.open()
    assert second.ticket.attempt == 2
    reason = replaced(federation, second, updates, replayed)
    assert reason == "refused: the commitment of beta was made for another ticket"


def test_a_commitment_of_the_round_before_is_left_out(federation: WalkedFederation, updates: Updates) -> None:
    first = federation.round(updates)
    replayed = federation.exchange.read(commitment_key(first.ticket, "beta"))
    reason = replaced(federation, federation.open(), updates, replayed)
    assert reason == "refused: the commitment of beta was made for another ticket"


@pytest.mark.parametrize("site", ["alpha", "beta"])
def test_a_commitment_that_another_site_signed_is_left_out(
    federation: WalkedFederation, opened: OpenedRound, updates: Updates, site: str
) -> None:
    forged = commit(opened.ticket, site, b"", b"").signed(load_signing_key("keys", "alpha"))
    assert replaced(federation, opened, updates, forged).startswith("refused: ")


@pytest.mark.parametrize(
    "document",
    [b"", b"no json", b"{}", b"[" * 60_000, b'{"body":' * 990, bytes((1 << 16) + 1)],
    ids=["empty", "text", "form", "deep", "nested", "large"],
)
def test_what_a_site_uploads_never_ends_the_round_of_the_others(
    federation: WalkedFederation, opened: OpenedRound, updates: Updates, document: bytes
) -> None:
    assert replaced(federation, opened, updates, document)


def test_a_commitment_that_is_not_there_is_left_out(
    federation: WalkedFederation, opened: OpenedRound, updates: Updates
) -> None:
    commitments = federation.commit_to(opened, some(updates, "alpha", "gamma"))
    outcome = federation.call(opened, commitments | {"beta": "exchange/promised"})
    assert outcome.manifest["left_out"] == {"beta": "unreachable: a store (ObjectMissingError)"}


def test_a_ticket_that_is_not_the_coordinators_is_refused(
    federation: WalkedFederation, opened: OpenedRound, updates: Updates
) -> None:
    commitments = federation.commit_to(opened, updates)
    forged = replace(opened.ticket, model="00" * 32).signed(load_signing_key("keys", "alpha"))
    federation.exchange.create("forged.json", forged)
    before = federation.content("exchange")
    with pytest.raises(SignatureError):
        federation.call(replace(opened, reference="exchange/forged.json"), commitments)
    with pytest.raises(RefusedError):
        federation.call(replace(opened, reference="elsewhere/ticket.json"), commitments)
    assert federation.content("exchange") == before


def test_a_roster_that_was_put_there_by_somebody_else_is_refused(
    federation: WalkedFederation, opened: OpenedRound, updates: Updates
) -> None:
    commitments = federation.commit_to(opened, updates)
    roster = Roster(ticket=opened.ticket.digest, commitments={}, left_out={})
    federation.exchange.create(roster_key(opened.ticket), roster.signed(load_signing_key("keys", "alpha")))
    with pytest.raises(SignatureError):
        federation.call(opened, commitments)


def test_an_update_of_one_value_more_is_another_commitment(
    federation: WalkedFederation, opened: OpenedRound, updates: Updates
) -> None:
    longer = {"alpha": (np.append(updates["alpha"][0], 0.0), updates["alpha"][1]), "beta": updates["beta"]}
    federation.call(opened, federation.commit_to(opened, longer))
    values, num_examples = updates["alpha"]
    content = num_examples.to_bytes(8, "little") + values.tobytes()
    shorter = commit(opened.ticket, "alpha", bytes(32), content).commitment
    assert roster_of(federation, opened).commitments["alpha"] != shorter
