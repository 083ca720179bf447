from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from components.agreement.cutoff import shortfall_key
from components.agreement.parties import load_parties, load_signing_key
from components.agreement.ticket import read_ticket
from components.artifacts import tensors
from components.artifacts.documents import digest, verify
from components.artifacts.stores import open_store
from components.errors import (
    CrosscloudError,
    DigestMismatchError,
    IntegrityError,
    QuorumNotReachedError,
    UsageError,
)
from components.execution.journal import entries
from components.rounds.round_opening import opening
from components.rounds.state import checkpoint_key, newest_record

if TYPE_CHECKING:
    from tests.components.rounds.conftest import Update, WalkedFederation

    Updates = dict[str, Update]

ASKED = {"local_epochs": 9, "learning_rate": 0.5, "batch_size": 99, "seed": 77}


class TestGenesis:
    def test_asks_for_what_the_run_asks_for(self, federation: WalkedFederation) -> None:
        opened = federation.open()
        ticket = opened.ticket
        assert (opened.stage, opened.reference) == ("open", "exchange/rounds/00001-1/ticket.json")
        assert (ticket.round_number, ticket.attempt, ticket.purpose, ticket.previous) == (1, 1, "update", "")
        for name in (
            "federation",
            "sites",
            "protection",
            "local_epochs",
            "learning_rate",
            "batch_size",
            "seed",
        ):
            assert getattr(ticket, name) == getattr(federation.request, name)
        snapshot = datetime.fromisoformat(ticket.snapshot)
        assert snapshot.tzinfo == UTC
        assert timedelta(0) <= datetime.now(UTC) - snapshot < timedelta(minutes=1)

    def test_the_ticket_is_published_under_the_coordinators_signature(
        self, federation: WalkedFederation
    ) -> None:
        opened = federation.open()
        document = federation.exchange.read("rounds/00001-1/ticket.json")
        assert read_ticket(document, load_parties("keys")) == opened.ticket

    def test_a_linear_head_starts_at_zero(self, federation: WalkedFederation) -> None:
        content = federation.exchange.read(f"models/{federation.open().ticket.model}.safetensors")
        assert digest(content) == federation.open().ticket.model
        model = tensors.decode(content)
        assert {name: values.tolist() for name, values in model.items()} == {
            "output.weight": [[0, 0]] * 3,
            "output.bias": [0, 0, 0],
        }

    def test_a_hidden_layer_is_drawn_from_the_seed(self, federation: WalkedFederation) -> None:
        content = federation.exchange.read(
            f"models/{federation.open(hidden_units=4).ticket.model}.safetensors"
        )
        generator = np.random.Generator(np.random.PCG64(5))
        weight = generator.uniform(-(2**-0.5), 2**-0.5, (4, 2)).astype(np.float32)
        np.testing.assert_array_equal(tensors.decode(content)["hidden.weight"], weight)

    def test_writes_nothing_to_the_state(self, federation: WalkedFederation) -> None:
        federation.open()
        assert federation.content("state") == {}


class TestAnOpenRound:
    def test_keeps_the_values_it_was_opened_with(self, federation: WalkedFederation) -> None:
        first, before = federation.open(), federation.content("exchange")
        again = federation.open(**ASKED)  # type: ignore[arg-type]
        assert again == first
        assert federation.content("exchange") == before

    @pytest.mark.parametrize(
        ("name", "value"),
        [("protection", "he"), ("sites", ("alpha", "beta")), ("sites", ("alpha", "beta", "delta"))],
    )
    def test_with_another_agreement_is_refused(
        self, federation: WalkedFederation, name: str, value: object
    ) -> None:
        federation.open()
        before = federation.content("exchange")
        with pytest.raises(
            UsageError, match=f"round 1 was opened with another {name}: .*exchange_uri of its own"
        ):
            federation.open(**{name: value})  # type: ignore[arg-type]
        assert federation.content("exchange") == before

    @pytest.mark.parametrize("head", [{"hidden_units": 4}, {"classes": 4}, {"features": 3}])
    def test_with_another_head_is_refused(self, federation: WalkedFederation, head: dict[str, int]) -> None:
        federation.open()
        with pytest.raises(UsageError, match="round 1 was opened with another model"):
            federation.open(**head)


class TestForeignKeys:
    def test_are_refused_before_anything_is_written(self, federation: WalkedFederation) -> None:
        with pytest.raises(UsageError, match=r"^keys holds keys of walked, not of elsewhere$"):
            federation.open(federation="elsewhere")
        assert federation.content("exchange") == federation.content("state") == {}

    def test_a_ticket_of_another_coordinator_is_refused(self, federation: WalkedFederation) -> None:
        ticket = federation.open().ticket
        path = federation.home / "exchange/rounds/00001-1/ticket.json"
        path.write_bytes(replace(ticket, local_epochs=99).signed(load_signing_key("keys", "alpha")))
        with pytest.raises(IntegrityError):
            federation.open()


class TestAfterACommit:
    def test_the_next_round_starts_from_what_was_committed(
        self, federation: WalkedFederation, updates: Updates
    ) -> None:
        first = federation.round(updates)
        receipt = federation.exchange.read("rounds/00001-1/receipt.json")
        second = federation.open(**ASKED)  # type: ignore[arg-type]
        assert (second.stage, second.reference) == ("open", "exchange/rounds/00002-1/ticket.json")
        assert (second.ticket.round_number, second.ticket.attempt) == (2, 1)
        assert second.ticket.previous == digest(receipt)
        record = newest_record(federation.state, load_parties("keys"))
        assert record is not None
        assert second.ticket.model == record.model != first.ticket.model
        assert (second.ticket.local_epochs, second.ticket.seed) == (9, 77)

    def test_rounds_form_a_chain(self, federation: WalkedFederation, updates: Updates) -> None:
        tickets = [federation.round(updates).ticket for _ in range(3)]
        assert [ticket.round_number for ticket in tickets] == [1, 2, 3]
        for number, ticket in enumerate(tickets[1:], start=1):
            receipt = federation.exchange.read(f"rounds/{number:05d}-1/receipt.json")
            assert ticket.previous == digest(receipt)
        assert federation.open().ticket.round_number == 4

    def test_a_round_without_a_report_is_resumed(
        self, federation: WalkedFederation, updates: Updates
    ) -> None:
        first = federation.open()
        federation.commit(first, federation.walk(first, updates))
        before = federation.content("exchange")
        again = federation.open(**ASKED)  # type: ignore[arg-type]
        assert again == replace(first, stage="committed")
        assert federation.content("exchange") == before
        federation.finish(1)
        assert federation.open().ticket.round_number == 2

    @pytest.mark.parametrize(
        ("head", "words"),
        [
            ({"hidden_units": 4}, "output.weight 3×2, .* asks for .*hidden.weight 4×2.* output.weight 3×4"),
            (
                {"classes": 4},
                "output.bias 3, output.weight 3×2, .* asks for output.bias 4, output.weight 4×2",
            ),
            ({"features": 7}, "output.weight 3×2, .* asks for output.bias 3, output.weight 3×7"),
        ],
    )
    def test_a_changed_head_is_refused(
        self, federation: WalkedFederation, updates: Updates, head: dict[str, int], words: str
    ) -> None:
        federation.round(updates)
        before = federation.content("exchange")
        with pytest.raises(UsageError, match=f"{words}: .* needs a state_uri of its own"):
            federation.open(**head)
        assert federation.content("exchange") == before

    def test_an_altered_checkpoint_is_refused(self, federation: WalkedFederation, updates: Updates) -> None:
        federation.round(updates)
        record = newest_record(federation.state, load_parties("keys"))
        assert record is not None
        path = federation.home / "state" / checkpoint_key(record)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(DigestMismatchError, match="checkpoint of round 1"):
            federation.open()
        assert not federation.exchange.keys("rounds/00002-1")

    def test_a_gap_in_the_state_is_refused(self, federation: WalkedFederation, updates: Updates) -> None:
        for _ in range(3):
            federation.round(updates)
        (federation.home / "state/rounds/00002/round.json").unlink()
        with pytest.raises(IntegrityError, match=r"found \[1, 3\]"):
            federation.open()

    def test_an_earlier_rounds_ticket_is_not_resumed_in_its_place(self, federation: WalkedFederation) -> None:
        """Updates of nothing leave the model as it was, so that round 1's ticket looks like round 2's."""
        federation.round({site: (np.zeros(9), 5) for site in ("alpha", "beta")})
        replayed = federation.exchange.read("rounds/00001-1/ticket.json")
        federation.exchange.create("rounds/00002-1/ticket.json", replayed)
        with pytest.raises(CrosscloudError):
            federation.open()


class TestAfterAShortfall:
    @pytest.fixture
    def short(self, federation: WalkedFederation, updates: Updates) -> WalkedFederation:
        opened = federation.open()
        roster = federation.call(opened, federation.commit_to(opened, updates)).reference
        with pytest.raises(QuorumNotReachedError):
            federation.aggregate(opened, federation.seal(opened, roster, ["beta"]))
        assert federation.exchange.exists(shortfall_key(opened.ticket))
        return federation

    def test_a_new_attempt_is_opened_and_the_old_one_is_void(self, short: WalkedFederation) -> None:
        first = read_ticket(short.exchange.read("rounds/00001-1/ticket.json"), load_parties("keys"))
        second = short.open(**ASKED)  # type: ignore[arg-type]
        assert (second.stage, second.reference) == ("open", "exchange/rounds/00001-2/ticket.json")
        assert (second.ticket.round_number, second.ticket.attempt) == (1, 2)
        assert second.ticket.digest != first.digest
        assert (second.ticket.local_epochs, second.ticket.seed) == (9, 77)
        void = short.exchange.read("rounds/00001-1/void.json")
        key = load_parties("keys").key("coordinator")
        assert verify(void, domain="void", signer="coordinator", key=key)["ticket"] == first.digest

    def test_the_new_attempt_is_resumed(self, short: WalkedFederation) -> None:
        second, before = short.open(**ASKED), short.content("exchange")  # type: ignore[arg-type]
        assert short.open() == second
        assert short.content("exchange") == before

    def test_attempts_are_counted_on(self, short: WalkedFederation) -> None:
        short.exchange.create(shortfall_key(short.open().ticket), b"{}")
        third = short.open()
        assert third.ticket.attempt == 3
        assert short.exchange.exists("rounds/00001-2/void.json")
        assert not short.exchange.exists("rounds/00001-3/void.json")

    def test_the_new_attempt_can_be_committed(self, short: WalkedFederation, updates: Updates) -> None:
        second = short.open()
        short.commit(second, short.walk(second, updates))
        record = newest_record(short.state, load_parties("keys"))
        assert record is not None
        assert (record.round_number, record.attempt, record.folder) == (1, 2, "rounds/00001-2")
        assert short.open().stage == "committed"


class TestTheStep:
    def run(self, federation: WalkedFederation, name: str = "walked") -> opening.OpenedRound:
        return opening.run(
            replace(federation.request, federation=name),
            federation.shape,
            state_uri="state",
            exchange_uri="exchange",
            keys_uri="keys",
        )

    def test_is_journalled_beside_the_ticket(self, federation: WalkedFederation) -> None:
        opened = self.run(federation)
        assert opened == federation.open()
        assert [entry.step for entry in entries(open_store("exchange"), "rounds/00001-1")] == ["open_round"]

    def test_tells_an_error_in_a_line(
        self, federation: WalkedFederation, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as end:
            self.run(federation, "elsewhere")
        assert end.value.code == 2
        assert capfd.readouterr().err == (
            "crosscloud-error: UsageError: keys holds keys of walked, not of elsewhere\n"
        )
