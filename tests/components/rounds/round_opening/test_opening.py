from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.agreement.charter_book import propose
from components.agreement.cutoff import Cutoff, cutoff_key, shortfall_key
from components.agreement.private_keys import load_signing_key
from components.agreement.released import read_release, release_key
from components.agreement.site_update import keep_update
from components.agreement.ticket import read_ticket
from components.agreement.void import read_void
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import open_store
from components.errors import (
    CrosscloudError,
    DigestMismatchError,
    IntegrityError,
    QuorumNotReachedError,
    RefusedError,
    UsageError,
)
from components.execution.journal import entries
from components.rounds.round_opening import opening
from components.rounds.round_opening.opening import OpenedRound
from components.rounds.state import checkpoint_key, newest_record, next_round_number
from components.training.local_training.training import train
from tests.components.aggregation.three_sites import ThreeSites, put_in_force, set_policy
from tests.components.rounds.walks import content, walk

ASKED: dict[str, Any] = {"local_epochs": 9, "learning_rate": 0.5, "batch_size": 99, "seed": 77}


@pytest.fixture
def three(home: Path) -> ThreeSites:
    return walk("open", "none").three


@pytest.fixture
def finished(home: Path) -> ThreeSites:
    """A round committed and reported."""
    three = walk("committed", "none").three
    open_store(three.state_uri).create("rounds/00001/report.json", b"{}")
    return three


def again(three: ThreeSites, *, shape: dict[str, int] | None = None, **asked: Any) -> OpenedRound:
    return opening.open_round(
        replace(three.request, **asked),
        replace(three.shape, **(shape or {})),
        state_uri=three.state_uri,
        exchange_uri=three.exchange_uri,
        keys_uri=three.keys_uri,
    )


def amend(three: ThreeSites, **changes: Any) -> ThreeSites:
    """The next edition of the charter, in force and pinned."""
    edition = replace(
        three.charter, edition=three.charter.edition + 1, previous=three.charter.digest, **changes
    )
    put_in_force(three.name, edition)
    return three


class TestGenesis:
    def test_asks_for_what_the_run_asks_for(self, three: ThreeSites) -> None:
        opened = three.opened
        ticket = opened.ticket
        assert (opened.stage, opened.reference) == ("open", "small/exchange/rounds/00001-1/ticket.json")
        assert (ticket.round_number, ticket.attempt, ticket.purpose) == (1, 1, "update")
        assert (ticket.void, ticket.previous, ticket.previous_folder) == ("", "", "")
        assert (ticket.charter, ticket.model) == (three.charter.digest, three.charter.genesis)
        for name in ("federation", "local_epochs", "learning_rate", "batch_size", "seed"):
            assert getattr(ticket, name) == getattr(three.request, name)
        snapshot = datetime.fromisoformat(ticket.snapshot)
        assert snapshot.tzinfo == UTC
        assert timedelta(0) <= datetime.now(UTC) - snapshot < timedelta(minutes=5)

    def test_the_ticket_is_published_under_the_coordinators_signature(self, three: ThreeSites) -> None:
        document = three.exchange.read("rounds/00001-1/ticket.json")
        assert read_ticket(document, three.charter) == three.opened.ticket

    def test_a_linear_head_starts_at_zero(self, three: ThreeSites) -> None:
        model = three.exchange.read(f"models/{three.opened.ticket.model}.safetensors")
        assert digest(model) == three.opened.ticket.model
        found = tensors.decode(model)
        assert {name: values.shape for name, values in found.items()} == {
            "output.weight": (4, 6),
            "output.bias": (4,),
        }
        assert not any(values.any() for values in found.values())

    def test_a_hidden_layer_is_drawn_from_the_seed(self) -> None:
        three = walk("open", "none", hidden_units=4).three
        generator = np.random.Generator(np.random.PCG64(3))
        weight = generator.uniform(-(6**-0.5), 6**-0.5, (4, 6)).astype(np.float32)
        np.testing.assert_array_equal(three.model(three.opened.ticket.model)["hidden.weight"], weight)

    def test_writes_nothing_to_the_state(self, three: ThreeSites) -> None:
        assert content(three.state_uri) == {}


class TestTheCharter:
    @pytest.mark.parametrize(
        ("asked", "shown"),
        [
            ({"protection": "he"}, "protection he, the charter in force has none"),
            ({"protection": "sealed"}, "protection sealed, the charter in force has none"),
            ({"sites": ("alpha", "beta")}, "sites alpha, beta, the charter in force has alpha, beta, gamma"),
            ({"sites": ("alpha", "beta", "delta")}, "sites alpha, beta, delta, the charter in force has"),
            ({"federation": "elsewhere"}, "federation elsewhere, the charter in force has small"),
        ],
    )
    @pytest.mark.parametrize("begun", [True, False])
    def test_must_be_what_the_run_was_compiled_for(
        self, three: ThreeSites, begun: bool, asked: dict[str, Any], shown: str
    ) -> None:
        if not begun:
            (three.exchange_folder / "rounds/00001-1/ticket.json").unlink()
        before = content(three.exchange_uri)
        with pytest.raises(UsageError, match=f"the run asks for {shown}"):
            again(three, **asked)
        assert content(three.exchange_uri) == before
        assert content(three.state_uri) == {}

    def test_names_its_sites_in_any_order(self, three: ThreeSites) -> None:
        assert again(three, sites=("gamma", "alpha", "beta")) == three.opened

    def test_that_nobody_signed_opens_nothing(self, three: ThreeSites) -> None:
        for path in (three.keys_folder / "charters").rglob("signatures/beta.json"):
            path.unlink()
        with pytest.raises(UsageError, match="is not signed by beta"):
            again(three)

    def test_that_is_only_proposed_changes_nothing(self, three: ThreeSites) -> None:
        propose(
            three.keys_uri,
            replace(three.charter, edition=2, previous=three.charter.digest, max_rounds=5),
        )
        assert again(three) == three.opened

    @pytest.mark.parametrize(
        ("protection", "step"),
        [("none", "open"), ("he", "called"), ("sealed", "called"), ("sealed", "sealed")],
    )
    def test_that_was_changed_before_the_cut_off_opens_the_next_attempt(
        self, protection: str, step: str
    ) -> None:
        three = amend(walk(step, protection).three, max_rounds=50)
        later = three.next_attempt()
        ticket = later.opened.ticket
        assert (ticket.round_number, ticket.attempt) == (1, 2)
        assert ticket.charter == three.charter.digest != three.opened.ticket.charter
        void = three.exchange.read("rounds/00001-1/void.json")
        assert read_void(void, three.charter) == (three.opened.ticket.digest, 1, "the charter was changed")
        assert ticket.void == digest(void)
        assert content(three.state_uri) == {}
        assert later.committed().manifest["round"] == 1

    @pytest.mark.parametrize(
        ("protection", "step"),
        [("none", "summed"), ("he", "opened"), ("sealed", "summed"), ("sealed", "released")],
    )
    def test_that_was_changed_after_the_cut_off_opens_the_next_round(
        self, protection: str, step: str
    ) -> None:
        three = amend(walk(step, protection).three, max_rounds=50)
        later = three.next_attempt()
        ticket = later.opened.ticket
        assert (ticket.round_number, ticket.attempt, ticket.void) == (2, 1, "")
        assert ticket.charter == three.charter.digest
        assert (ticket.model, ticket.previous) == (three.opened.ticket.model, "")
        assert set(content(three.state_uri)) == {"rounds/00001/void.json"}
        assert later.committed().manifest["round"] == 2

    def test_that_was_changed_between_rounds_goes_on_with_the_same_model(self, finished: ThreeSites) -> None:
        later = amend(finished, max_rounds=50).next_attempt()
        ticket = later.opened.ticket
        record = newest_record(open_store(finished.state_uri), finished.keys_uri, finished.charter)
        assert record is not None
        assert (ticket.round_number, ticket.model, ticket.previous) == (2, record.model, record.receipt)
        assert later.committed().manifest["round"] == 2

    def test_that_a_site_has_not_pinned_is_the_sites_to_refuse(self, three: ThreeSites) -> None:
        before = three.charter.digest
        later = amend(three, max_rounds=50).next_attempt()
        set_policy("small", "alpha", charter=before, protections=("none",))
        with pytest.raises(RefusedError, match="foreign charter"):
            later.accepted("alpha")
        assert later.accepted("beta")


class TestAnOpenRound:
    def test_keeps_the_values_it_was_opened_with(self, three: ThreeSites) -> None:
        before = content(three.exchange_uri)
        assert again(three, **ASKED) == three.opened
        assert content(three.exchange_uri) == before

    @pytest.mark.parametrize("head", [{"hidden_units": 4}, {"classes": 5}, {"features": 3}])
    def test_with_another_head_is_refused(self, three: ThreeSites, head: dict[str, int]) -> None:
        with pytest.raises(UsageError, match="round 1 was opened with another model"):
            again(three, shape=head)

    def test_whose_ticket_somebody_else_signed_is_refused(self, three: ThreeSites) -> None:
        path = three.exchange_folder / "rounds/00001-1/ticket.json"
        forged = replace(three.opened.ticket, local_epochs=99)
        path.write_bytes(forged.signed(load_signing_key(three.keys_uri, "alpha")))
        with pytest.raises(IntegrityError):
            again(three)

    def test_is_resumed_by_the_sites_too(self, three: ThreeSites) -> None:
        three.train()
        later = three.next_attempt()
        assert later.opened == three.opened
        assert later.committed().manifest["round"] == 1


class TestAfterACommit:
    def test_the_next_round_starts_from_what_was_committed(self, finished: ThreeSites) -> None:
        receipt = finished.exchange.read("rounds/00001-1/receipt.json")
        second = again(finished, **ASKED)
        assert (second.stage, second.reference) == ("open", "small/exchange/rounds/00002-1/ticket.json")
        assert (second.ticket.round_number, second.ticket.attempt) == (2, 1)
        assert (second.ticket.previous, second.ticket.previous_folder) == (digest(receipt), "rounds/00001-1")
        record = newest_record(open_store(finished.state_uri), finished.keys_uri, finished.charter)
        assert record is not None
        assert second.ticket.model == record.model != finished.opened.ticket.model
        assert (second.ticket.local_epochs, second.ticket.seed) == (9, 77)

    @pytest.mark.parametrize("protection", ["none", "sealed"])
    def test_rounds_form_a_chain(self, protection: str) -> None:
        three = walk("committed", protection).three
        for number in (2, 3):
            before = three.exchange.read(f"rounds/{number - 1:05d}-1/receipt.json")
            three = three.next_round()
            assert three.opened.ticket.round_number == number
            assert three.opened.ticket.previous == digest(before)
            three.committed()
        assert three.next_round().opened.ticket.round_number == 4

    def test_a_round_without_a_report_is_resumed(self) -> None:
        first = walk("committed", "none").three
        before = content(first.exchange_uri)
        assert again(first, **ASKED) == replace(first.opened, stage="committed")
        assert content(first.exchange_uri) == before
        assert first.next_round().opened.ticket.round_number == 2

    @pytest.mark.parametrize(
        ("head", "words"),
        [
            ({"hidden_units": 5}, "output.weight 4×6, .* asks for .*hidden.weight 5×6.* output.weight 4×5"),
            (
                {"classes": 3},
                "output.bias 4, output.weight 4×6, .* asks for output.bias 3, output.weight 3×6",
            ),
            ({"features": 7}, "output.weight 4×6, .* asks for output.bias 4, output.weight 4×7"),
        ],
    )
    def test_a_changed_head_is_refused(self, finished: ThreeSites, head: dict[str, int], words: str) -> None:
        before = content(finished.exchange_uri)
        with pytest.raises(UsageError, match=f"{words}: .* needs a state_uri of its own"):
            again(finished, shape=head)
        assert content(finished.exchange_uri) == before

    def test_an_altered_checkpoint_is_refused(self, finished: ThreeSites, home: Path) -> None:
        record = newest_record(open_store(finished.state_uri), finished.keys_uri, finished.charter)
        assert record is not None
        path = home / "small/state" / checkpoint_key(record)
        altered = bytearray(path.read_bytes())
        altered[-1] ^= 1
        path.write_bytes(altered)
        with pytest.raises(DigestMismatchError, match="checkpoint of round 1"):
            again(finished)
        assert not finished.exchange.keys("rounds/00002-1")

    def test_a_gap_in_the_state_is_refused(self, finished: ThreeSites, home: Path) -> None:
        three = finished.next_attempt()
        three.committed()
        three.next_round().committed()
        (home / "small/state/rounds/00002/round.json").unlink()
        with pytest.raises(IntegrityError, match=r"found \[1, 3\]"):
            again(finished)

    def test_an_earlier_rounds_ticket_is_not_resumed_in_its_place(self, finished: ThreeSites) -> None:
        replayed = finished.exchange.read("rounds/00001-1/ticket.json")
        finished.exchange.create("rounds/00002-1/ticket.json", replayed)
        with pytest.raises(IntegrityError, match="ticket in rounds/00002-1 is another round"):
            again(finished)


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
        reason = "too few sites sealed or released"
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
        reason = "too few sites sealed or released"
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

    @pytest.mark.xfail(strict=True, reason="the attempt is resumed for ever")
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

    @pytest.mark.xfail(strict=True, reason="it is voided, and its sites refuse the round that follows")
    def test_is_gone_on_with_when_the_charter_is_changed(self) -> None:
        later = amend(walk("opened", "sealed").three, max_rounds=50).next_attempt()
        committed = later.committed()
        assert committed.manifest["round"] in {1, 2}

    @pytest.mark.xfail(strict=True, reason="void and opened: sites refuse the next round")
    def test_does_not_come_about_once_it_is_void(self) -> None:
        """A release came late; another run has given the attempt up meanwhile."""
        walked = walk("summed", "sealed")
        three = walked.three
        three.release(("alpha", "beta"))
        with pytest.raises(QuorumNotReachedError):
            three.open_sum(walked.total)
        second = three.next_attempt()
        three.release(("gamma",))
        with contextlib.suppress(CrosscloudError):
            three.open_sum(walked.total)
        assert second.committed().manifest["round"] == 2


class TestTheStep:
    def run(self, three: ThreeSites, name: str = "small") -> OpenedRound:
        return opening.run(
            replace(three.request, federation=name),
            three.shape,
            state_uri=three.state_uri,
            exchange_uri=three.exchange_uri,
            keys_uri=three.keys_uri,
        )

    def test_is_journalled_beside_the_ticket(self, three: ThreeSites) -> None:
        assert self.run(three) == three.opened
        found = entries(open_store(three.exchange_uri), "rounds/00001-1")
        assert [entry.step for entry in found] == ["open_round"]

    def test_tells_an_error_in_a_line(self, three: ThreeSites, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as end:
            self.run(three, "elsewhere")
        assert end.value.code == 2
        told = capfd.readouterr().err
        assert told.startswith("crosscloud-error: UsageError: the run asks for federation elsewhere, ")
        assert told.count("\n") == 1
