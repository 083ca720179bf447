"""Where a federation stands, and the ticket that a run is given there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.agreement.charter_book import propose
from components.agreement.private_keys import load_signing_key
from components.agreement.ticket import read_ticket
from components.agreement.void import read_void
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import open_store
from components.errors import (
    DigestMismatchError,
    IntegrityError,
    RefusedError,
    UsageError,
)
from components.execution.journal import entries
from components.rounds.round_opening import opening
from components.rounds.round_opening.opening import OpenedRound
from components.rounds.state import checkpoint_key, newest_record
from tests.components.aggregation.three_sites import ThreeSites, set_policy
from tests.components.rounds.round_opening.runs import ASKED, again, amend
from tests.components.rounds.walks import content, walk


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
        assert timedelta(0) <= datetime.now(UTC) - snapshot < timedelta(hours=1)

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
        [("none", "summed"), ("he", "released"), ("sealed", "summed"), ("sealed", "released")],
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

    def test_whose_ticket_names_a_foreign_charter_is_refused(self, three: ThreeSites) -> None:
        foreign = replace(three.opened.ticket, charter="0" * 64)
        path = three.exchange_folder / "rounds/00001-1/ticket.json"
        path.write_bytes(foreign.signed(load_signing_key(three.keys_uri, "coordinator")))
        with pytest.raises(IntegrityError, match="names a foreign charter, 000000000000"):
            again(three)
        assert content(three.state_uri) == {}

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
