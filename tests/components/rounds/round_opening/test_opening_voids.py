"""Attempts that came to nothing: what is void, what is gone on with, and what follows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.agreement.cutoff import Cutoff, cutoff_key, end_attempt, shortfall_key
from components.agreement.private_keys import load_signing_key
from components.agreement.receipt import receipt_key
from components.agreement.released import read_release, release_key
from components.agreement.site_update import keep_update
from components.agreement.void import read_void, void_document, void_key
from components.artifacts.documents import digest
from components.artifacts.stores import open_store
from components.errors import (
    IntegrityError,
    QuorumNotReachedError,
    RefusedError,
)
from components.rounds.state import newest_record, next_round_number
from components.training.local_training.training import train
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.rounds.round_opening.runs import ASKED, again, amend
from tests.components.rounds.walks import content, walk


class TestAfterAShortfallBeforeTheCutOff:
    @pytest.fixture(params=["none", "sealed"])
    def short(self, home: Path, request: pytest.FixtureRequest) -> ThreeSites:
        walked = walk("sealed", request.param)
        with pytest.raises(QuorumNotReachedError):
            walked.three.aggregate({"beta": walked.sealed["beta"]})
        assert walked.three.exchange.exists(shortfall_key(walked.three.opened.ticket))
        return walked.three

    def test_a_new_attempt_is_opened_and_the_old_one_is_void(self, short: ThreeSites) -> None:
        first = short.opened.ticket
        second = again(short, **ASKED)
        assert (second.stage, second.reference) == ("open", "small/exchange/rounds/00001-2/ticket.json")
        assert (second.ticket.round_number, second.ticket.attempt) == (1, 2)
        assert (second.ticket.local_epochs, second.ticket.seed) == (9, 77)
        void = short.exchange.read("rounds/00001-1/void.json")
        assert second.ticket.void == digest(void)
        reason = "too few sites sealed or released, or what they sealed does not open"
        assert read_void(void, short.charter) == (first.digest, 1, reason)
        assert content(short.state_uri) == {}

    def test_the_new_attempt_is_resumed(self, short: ThreeSites) -> None:
        second, before = again(short, **ASKED), content(short.exchange_uri)
        assert again(short) == second
        assert content(short.exchange_uri) == before

    def test_attempts_are_counted_on(self, short: ThreeSites) -> None:
        second = again(short)
        short.exchange.create(shortfall_key(second.ticket), b"{}")
        third = again(short)
        assert third.ticket.attempt == 3
        assert third.ticket.void == digest(short.exchange.read("rounds/00001-2/void.json"))
        assert not short.exchange.exists("rounds/00001-3/void.json")

    def test_the_new_attempt_can_be_committed(self, short: ThreeSites) -> None:
        second = short.next_attempt()
        second.committed()
        record = newest_record(open_store(short.state_uri), short.keys_uri, short.charter)
        assert record is not None
        assert (record.round_number, record.attempt, record.folder) == (1, 2, "rounds/00001-2")
        assert again(short).stage == "committed"


class TestAfterAMissingRelease:
    """Some site may have released: the number is used up, and so is every attempt of it."""

    @pytest.fixture
    def short(self, home: Path) -> ThreeSites:
        walked = walk("released", "sealed")
        three = walked.three
        (three.exchange_folder / release_key(three.opened.ticket, "beta")).unlink()
        with pytest.raises(QuorumNotReachedError):
            three.open_sum(walked.total)
        return three

    def test_the_next_round_starts_from_the_same_model(self, short: ThreeSites) -> None:
        first = short.opened.ticket
        second = again(short, **ASKED)
        assert (second.stage, second.reference) == ("open", "small/exchange/rounds/00002-1/ticket.json")
        assert (second.ticket.round_number, second.ticket.attempt, second.ticket.void) == (2, 1, "")
        assert (second.ticket.model, second.ticket.previous) == (first.model, first.previous)
        assert second.ticket.local_epochs == 9
        assert not short.exchange.exists("rounds/00001-2/ticket.json")

    def test_the_void_lies_in_the_state(self, short: ThreeSites) -> None:
        again(short)
        void = content(short.state_uri)["rounds/00001/void.json"]
        assert void == short.exchange.read("rounds/00001-1/void.json")
        reason = "too few sites sealed or released, or what they sealed does not open"
        assert read_void(void, short.charter) == (short.opened.ticket.digest, 1, reason)
        assert next_round_number(open_store(short.state_uri)) == 2

    def test_the_next_round_is_resumed_and_committed(self, short: ThreeSites) -> None:
        second, before = short.next_attempt(), content(short.exchange_uri)
        assert short.next_attempt().opened == second.opened
        assert content(short.exchange_uri) == before
        assert second.committed().manifest["round"] == 2
        third = second.next_round()
        assert third.opened.ticket.round_number == 3
        assert third.opened.ticket.previous_folder == "rounds/00002-1"
        assert third.committed().manifest["round"] == 3

    @pytest.mark.parametrize("killed", ["before the state", "before the next ticket"])
    def test_a_run_that_was_killed_in_between_is_gone_on_with(
        self, short: ThreeSites, home: Path, killed: str
    ) -> None:
        second = again(short)
        void = content(short.state_uri)["rounds/00001/void.json"]
        (home / "small/exchange/rounds/00002-1/ticket.json").unlink()
        if killed == "before the state":
            (home / "small/state/rounds/00001/void.json").unlink()
        third = again(short)
        assert (third.ticket.round_number, third.ticket.attempt) == (2, 1)
        assert third.ticket.model == second.ticket.model
        assert content(short.state_uri) == {"rounds/00001/void.json": void}

    def test_several_rounds_may_be_void_in_a_row(self, short: ThreeSites) -> None:
        second = short.next_attempt()
        total = second.aggregate(second.sealed()).reference
        second.release(("alpha",))
        with pytest.raises(QuorumNotReachedError, match="beta, gamma sealed but did not release"):
            second.open_sum(total)
        third = second.next_attempt()
        assert (third.opened.ticket.round_number, third.opened.ticket.attempt) == (3, 1)
        assert set(content(short.state_uri)) == {"rounds/00001/void.json", "rounds/00002/void.json"}
        assert third.committed().manifest["round"] == 3

    def test_one_that_follows_a_committed_round_keeps_its_receipt(self) -> None:
        first = walk("committed", "sealed").three
        second = first.next_round()
        total = second.aggregate(second.sealed()).reference
        with pytest.raises(QuorumNotReachedError):
            second.open_sum(total)
        third = second.next_attempt()
        assert third.opened.ticket.round_number == 3
        assert third.opened.ticket.model == second.opened.ticket.model
        assert third.opened.ticket.previous == second.opened.ticket.previous != ""
        assert third.committed().manifest["round"] == 3


class TestAnAttemptThatCannotBeOpened:
    """What the key holder or the commit refuses, it refuses each time: the federation must go on after it."""

    def test_for_releases_that_open_nothing_is_void(self) -> None:
        walked = walk("released", "sealed")
        three = walked.three
        key = release_key(three.opened.ticket, "beta")
        attempt = three.attempt()
        cutoff = attempt.cutoff(attempt.roster())
        found = read_release(three.exchange, three.opened.ticket, cutoff, "beta", attempt.charter)
        forged = replace(found, locked="AAAA").signed(three.place("beta").key)
        (three.exchange_folder / key).write_bytes(forged)
        with pytest.raises(IntegrityError):
            three.open_sum(walked.total)
        assert three.next_attempt().opened.ticket.round_number == 2

    def test_for_a_mean_beyond_the_charters_norm_is_void(self) -> None:
        three = walk("open", "none").three
        place = three.accepted("alpha")

        keep_update(place.store, place.ticket, np.append(np.full(28, 1e6), 26.0))
        commitments = {"alpha": train(place, features="", device="cpu").reference}
        roster = three.roster(commitments | three.train(("beta", "gamma")))
        receipt = three.open_sum(three.summed(three.seal(roster))).reference
        with pytest.raises(IntegrityError, match="longer than the charter"):
            three.commit(receipt)
        assert three.next_attempt().opened.ticket.round_number == 2

    def test_for_a_cut_off_below_the_quorum_is_void(self) -> None:
        walked = walk("sealed", "sealed")
        three = walked.three

        fixed = Cutoff(roster=three.attempt().roster().digest, members=("alpha", "beta"), left_out={})
        three.exchange.create(cutoff_key(three.opened.ticket), fixed.to_json())
        total = three.aggregate(walked.sealed).reference
        with pytest.raises(QuorumNotReachedError):
            three.open_sum(total)
        assert three.next_attempt().opened.ticket.round_number == 2


class TestAnAttemptWithAReceipt:
    """Who has released in it starts from no earlier model: it must be committed, or never opened."""

    @pytest.mark.parametrize("protection", ["none", "he", "sealed"])
    def test_is_gone_on_with_when_the_charter_is_changed(self, protection: str) -> None:
        """Under the edition it was opened with: its sites are not asked any more, the sum is known."""
        walked = walk("opened", protection)
        three, before = amend(walked.three, max_rounds=50), content(walked.three.exchange_uri)
        later = three.next_attempt()
        assert later.opened == three.opened
        assert content(three.exchange_uri) == before
        for site in later.sites:
            with pytest.raises(RefusedError, match="the ticket names a foreign charter"):
                later.place(site)
        nothing = dict.fromkeys(later.sites, "")
        refusals = dict.fromkeys(later.sites, "refused: the ticket names a foreign charter")
        assert later.roster(nothing, refusals) == walked.roster
        assert later.aggregate(nothing, refusals).reference == walked.total
        assert later.commit(later.open_sum(walked.total).reference).manifest["round"] == 1
        record = newest_record(open_store(three.state_uri), three.keys_uri, three.charter)
        assert record is not None
        assert (record.charter, record.attempt) == (walked.three.opened.ticket.charter, 1)
        following = later.next_round()
        assert following.opened.ticket.charter == three.charter.digest != record.charter
        assert following.committed().manifest["round"] == 2

    def test_is_none_if_the_receipt_is_not_the_key_holders(self) -> None:
        """Who can write to the exchange cannot hold a federation up with a receipt of his own."""
        three = amend(walk("summed", "sealed").three, max_rounds=50)
        three.exchange.create(receipt_key(three.opened.ticket.folder), b"[" * 60_000)
        later = three.next_attempt()
        assert (later.opened.ticket.round_number, later.opened.ticket.attempt) == (2, 1)
        assert later.committed().manifest["round"] == 2

    @pytest.mark.parametrize("protection", ["none", "sealed"])
    def test_is_over_if_it_was_given_up(self, protection: str) -> None:
        """What the key holder opened, the commit has refused."""
        three = walk("opened", protection).three
        end_attempt(three.exchange, three.opened.ticket, three.attempt().cutoff(three.attempt().roster()))
        later = three.next_attempt().opened.ticket
        assert (later.round_number, later.attempt, later.model) == (2, 1, three.opened.ticket.model)

    def test_does_not_come_about_once_it_is_void(self) -> None:
        """A release came late; another run has given the attempt up meanwhile."""
        walked = walk("summed", "sealed")
        three = walked.three
        three.release(("alpha", "beta"))
        with pytest.raises(QuorumNotReachedError):
            three.open_sum(walked.total)
        second = three.next_attempt()
        three.release(("gamma",))
        with pytest.raises(QuorumNotReachedError, match="round 1 is void: nothing of it is opened any more"):
            three.open_sum(walked.total)
        assert second.committed().manifest["round"] == 2


class TestAVoidOfSomebodyElse:
    def test_does_not_pass_for_the_end_of_an_attempt_at_the_key_holder(self) -> None:
        walked = walk("released", "sealed")
        three, ticket = walked.three, walked.three.opened.ticket
        forged = void_document(ticket.digest, 1, "timeout", load_signing_key(three.keys_uri, "alpha"))
        three.exchange.create(void_key(ticket.folder), forged)
        with pytest.raises(IntegrityError, match="is not the coordinator's for this attempt: remove it"):
            three.open_sum(walked.total)
        (three.exchange_folder / void_key(ticket.folder)).unlink()
        assert three.commit(three.open_sum(walked.total).reference).manifest["round"] == 1


class TestTheVoidOfAnAttempt:
    """Of what lies in the exchange the coordinator's own word alone reaches the state."""

    @pytest.fixture
    def short(self, home: Path) -> ThreeSites:
        walked = walk("released", "sealed")
        (walked.three.exchange_folder / release_key(walked.three.opened.ticket, "beta")).unlink()
        with pytest.raises(QuorumNotReachedError):
            walked.three.open_sum(walked.total)
        return walked.three

    @pytest.mark.parametrize("fault", ["another signer", "another ticket", "another round", "no document"])
    @pytest.mark.parametrize("stage", ["before the cut-off", "after it"])
    def test_that_is_not_the_coordinators_for_it_is_refused(
        self, short: ThreeSites, fault: str, stage: str
    ) -> None:
        ticket = short.opened.ticket
        if stage == "before the cut-off":
            (short.exchange_folder / cutoff_key(ticket)).unlink()
        own, foreign = (load_signing_key(short.keys_uri, owner) for owner in ("coordinator", "alpha"))
        forged = {
            "another signer": void_document(ticket.digest, 1, "timeout", foreign),
            "another ticket": void_document("0" * 64, 1, "timeout", own),
            "another round": void_document(ticket.digest, 2, "timeout", own),
            "no document": b"[" * 60_000,
        }[fault]
        short.exchange.create(void_key(ticket.folder), forged)
        before = content(short.exchange_uri)
        with pytest.raises(IntegrityError) as caught:
            again(short)
        assert str(caught.value) == (
            "the void in rounds/00001-1 is not the coordinator's for this attempt: remove it and run again"
        )
        assert content(short.exchange_uri) == before
        assert content(short.state_uri) == {}
        (short.exchange_folder / void_key(ticket.folder)).unlink()
        assert again(short).stage == "open"

    def test_that_it_gave_before_stands_whatever_the_reason(self, short: ThreeSites) -> None:
        ticket = short.opened.ticket
        own = load_signing_key(short.keys_uri, "coordinator")
        given = void_document(ticket.digest, 1, "in other words", own)
        short.exchange.create(void_key(ticket.folder), given)
        assert again(short).ticket.round_number == 2
        assert content(short.state_uri) == {"rounds/00001/void.json": given}
