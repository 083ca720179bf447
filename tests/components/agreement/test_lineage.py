from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.agreement.charter_book import propose
from components.agreement.lineage import check_follows, check_model, expected_model
from components.agreement.model_store import model_key
from components.agreement.receipt import Receipt, aggregate_key, receipt_key
from components.agreement.ticket import Ticket
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import ObjectExistsError, RefusedError
from tests.components.agreement.signed_form import CHARTER, KEYS, TICKET, put_in_force

GENESIS = {"output.bias": np.zeros(2, np.float32), "output.weight": np.ones((2, 2), np.float32)}
FIRST = replace(CHARTER, genesis=digest(tensors.encode(GENESIS)))
SECOND = replace(FIRST, edition=2, previous=FIRST.digest, max_rounds=30)
Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A round that was opened: its ticket, its receipt, and the model that both give by Eq. 6."""

    ticket: Ticket
    receipt: bytes
    model: Mapping[str, NDArray[np.float32]]

    @property
    def made(self) -> str:
        return digest(tensors.encode(self.model))


def moved(model: Mapping[str, NDArray[np.float32]], mean: Values) -> dict[str, NDArray[np.float32]]:
    """By hand: two biases, then four weights."""
    bias = (model["output.bias"].astype(float) + mean[:2]).astype(np.float32)
    weight = (model["output.weight"].astype(float) + mean[2:].reshape(2, 2)).astype(np.float32)
    return {"output.bias": bias, "output.weight": weight}


def publish(exchange: Store, key: str, content: bytes) -> None:
    """Models are published once, whoever needs them."""
    try:
        exchange.create(key, content)
    except ObjectExistsError:
        assert exchange.read(key) == content


def opened(
    exchange: Store,
    before: Step | None = None,
    *,
    number: int = 1,
    under: Charter = FIRST,
    seed: int = 0,
    signers: tuple[str, str] = ("coordinator", "key-holder"),
    **changes: Any,
) -> Step:
    """A whole round on paper, from the model of the one before; `changes` are made to its receipt."""
    parent = before.model if before else GENESIS
    ticket = replace(
        TICKET,
        charter=under.digest,
        round_number=number,
        attempt=1,
        void="",
        model=digest(tensors.encode(parent)),
        previous=digest(before.receipt) if before else "",
        previous_folder=before.ticket.folder if before else "",
    )
    # Sixteenths and a power of two: the mean is exact in binary.
    mean = np.random.default_rng(seed + number).integers(-8, 8, 6) / 16
    values = tensors.encode({"aggregate": np.append(mean * 64, 64.0)})
    receipt = Receipt(
        charter=under.digest,
        ticket=ticket.digest,
        roster="4d" * 32,
        cutoff="0d" * 32,
        purpose="update",
        certificate="ce" * 32,
        ciphertexts=dict.fromkeys(("alpha", "beta", "gamma"), "b1" * 32),
        sealed_sum="5e" * 32,
        aggregate=digest(values),
        previous=ticket.previous,
    )
    document = replace(receipt, **changes).signed(KEYS[signers[1]])
    publish(exchange, model_key(ticket.model), tensors.encode(parent))
    exchange.create(f"{ticket.folder}/ticket.json", ticket.signed(KEYS[signers[0]]))
    exchange.create(aggregate_key(ticket.folder), values)
    exchange.create(receipt_key(ticket.folder), document)
    return Step(ticket=ticket, receipt=document, model=moved(parent, mean))


def after(step: Step | None, *, number: int = 9, charter: Charter = FIRST, **changes: Any) -> Ticket:
    """The ticket of the round that follows."""
    ticket = replace(
        TICKET,
        charter=charter.digest,
        round_number=number,
        model=step.made if step else FIRST.genesis,
        previous=digest(step.receipt) if step else "",
        previous_folder=step.ticket.folder if step else "",
    )
    return replace(ticket, **changes)


@pytest.fixture(autouse=True)
def in_force(home: Path) -> None:
    put_in_force(FIRST)


def check(exchange: Store, ticket: Ticket, charter: Charter = FIRST) -> None:
    check_model(exchange, "keys", ticket, charter)


def refuses(exchange: Store, ticket: Ticket, text: str, charter: Charter = FIRST) -> None:
    with pytest.raises(RefusedError, match=text) as refusal:
        check(exchange, ticket, charter)
    assert refusal.value.disclosed
    assert "\n" not in str(refusal.value)


UNTRACEABLE = "the model of round 9 cannot be traced to the last receipt: "


class TestGenesis:
    def test_the_first_round_starts_from_the_charters_model(self, exchange: Store) -> None:
        check(exchange, after(None, number=1))
        assert expected_model(exchange, "keys", after(None, number=1), FIRST) == FIRST.genesis

    def test_any_other_is_refused(self, exchange: Store) -> None:
        refuses(
            exchange,
            after(None, number=1, model="ab" * 32),
            "^the model of round 1 is not the one that the charter starts from$",
        )


class TestLastReceipt:
    def test_the_model_is_the_one_it_gives(self, exchange: Store) -> None:
        first = opened(exchange)
        check(exchange, after(first))
        second = opened(exchange, first, number=2)
        check(exchange, after(second))
        assert len({FIRST.genesis, first.made, second.made}) == 3

    def test_a_special_model_is_refused(self, exchange: Store) -> None:
        """A site that is handed its own model betrays its rows by how it moves it."""
        first = opened(exchange)
        special = {name: values.copy() for name, values in first.model.items()}
        special["output.bias"][1] = np.nextafter(special["output.bias"][1], np.float32(9))
        publish(exchange, model_key(digest(tensors.encode(special))), tensors.encode(special))
        for model in (digest(tensors.encode(special)), "ab" * 32):
            refuses(
                exchange,
                after(first, model=model),
                "^the model of round 9 is not the one that the last receipt gives$",
            )

    def test_an_older_model_is_refused(self, exchange: Store) -> None:
        first = opened(exchange)
        second = opened(exchange, first, number=2)
        for model in (FIRST.genesis, first.made):
            refuses(exchange, after(second, model=model), "is not the one that the last receipt gives")
        refuses(exchange, after(first, model=second.made), "is not the one that the last receipt gives")

    def test_another_receipt_than_the_ticket_names_is_refused(self, exchange: Store) -> None:
        first = opened(exchange)
        second = opened(exchange, first, number=2)
        for ticket in (
            replace(after(second), previous="00" * 32),
            replace(after(second), previous=digest(first.receipt)),
            replace(after(second), previous_folder=first.ticket.folder),
        ):
            refuses(exchange, ticket, f"{UNTRACEABLE}.* is not the one the ticket follows from")

    def test_a_receipt_of_this_round_or_a_later_one_is_refused(self, exchange: Store) -> None:
        step = opened(exchange, number=9)
        refuses(exchange, after(step), f"{UNTRACEABLE}.* of round 9, not of an earlier one")
        later = opened(exchange, number=10)
        refuses(exchange, after(later), f"{UNTRACEABLE}.* of round 10, not of an earlier one")

    @pytest.mark.parametrize("signer", ["alpha", "coordinator", "delta"])
    def test_a_forged_receipt_is_refused(self, exchange: Store, signer: str) -> None:
        forged = opened(exchange, signers=("coordinator", signer))
        refuses(exchange, after(forged), f"{UNTRACEABLE}the signature of key-holder on a receipt document")

    @pytest.mark.parametrize("signer", ["alpha", "key-holder", "delta"])
    def test_a_receipt_of_a_forged_ticket_is_refused(self, exchange: Store, signer: str) -> None:
        forged = opened(exchange, signers=(signer, "key-holder"))
        refuses(exchange, after(forged), f"{UNTRACEABLE}the signature of coordinator on a ticket document")

    @pytest.mark.parametrize(
        "change",
        [
            {"ticket": "00" * 32},
            {"charter": "00" * 32},
            {"previous": "00" * 32},
            {"purpose": "metrics"},
            {"ciphertexts": {"alpha": "b1" * 32, "delta": "b4" * 32}},
        ],
    )
    def test_a_receipt_that_was_given_for_something_else_is_refused(
        self, exchange: Store, change: dict[str, Any]
    ) -> None:
        refuses(exchange, after(opened(exchange, **change)), f"{UNTRACEABLE}.* given for another ticket")

    def test_another_aggregate_is_refused(self, exchange: Store) -> None:
        first = opened(exchange, aggregate="00" * 32)
        refuses(exchange, after(first), f"{UNTRACEABLE}.* is not the one its receipt signs")

    @pytest.mark.parametrize("values", [{"total": np.zeros(7)}, {"aggregate": np.zeros((7, 1))}])
    def test_an_aggregate_without_a_sum_is_refused(
        self, exchange: Store, home: Path, values: dict[str, Values]
    ) -> None:
        content = tensors.encode(values)
        first = opened(exchange, aggregate=digest(content))
        (home / "exchange" / aggregate_key(first.ticket.folder)).write_bytes(content)
        refuses(exchange, after(first), UNTRACEABLE)

    def test_a_receipt_that_was_moved_is_refused(self, exchange: Store) -> None:
        """Its folder says which round it is of; a copy in another folder would say another."""
        first = opened(exchange)
        for name in ("receipt.json", "ticket.json", "aggregate.safetensors"):
            exchange.create(f"rounds/00005-1/{name}", exchange.read(f"{first.ticket.folder}/{name}"))
        ticket = after(first, previous_folder="rounds/00005-1")
        refuses(exchange, ticket, f"{UNTRACEABLE}the ticket in rounds/00005-1 is that of rounds/00001-1")

    @pytest.mark.parametrize("missing", ["receipt.json", "ticket.json", "aggregate.safetensors"])
    def test_what_is_missing_is_refused(self, exchange: Store, home: Path, missing: str) -> None:
        first = opened(exchange)
        (home / "exchange" / first.ticket.folder / missing).unlink()
        refuses(exchange, after(first), UNTRACEABLE)

    def test_a_parent_that_is_missing_or_altered_is_refused(self, exchange: Store, home: Path) -> None:
        first = opened(exchange)
        parent = home / "exchange" / model_key(FIRST.genesis)
        parent.write_bytes(tensors.encode(first.model))
        refuses(exchange, after(first), f"{UNTRACEABLE}the model in the exchange is not the one")
        parent.unlink()
        refuses(exchange, after(first), UNTRACEABLE)

    def test_a_sum_that_the_optimiser_refuses_is_refused(self, exchange: Store, home: Path) -> None:
        long = tensors.encode({"aggregate": np.append(np.full(6, 64 * 2.0), 64.0)})
        first = opened(exchange, aggregate=digest(long))
        (home / "exchange" / aggregate_key(first.ticket.folder)).write_bytes(long)
        refuses(exchange, after(first), f"{UNTRACEABLE}the mean of the opened sum is longer")


class TestEditions:
    def test_a_new_edition_keeps_the_chain(self, exchange: Store) -> None:
        first = opened(exchange)
        put_in_force(SECOND)
        check(exchange, after(first, charter=SECOND), SECOND)
        second = opened(exchange, first, number=2, under=SECOND)
        check(exchange, after(second, charter=SECOND), SECOND)
        third = opened(exchange, second, number=3, under=SECOND)
        check(exchange, after(third, charter=SECOND), SECOND)

    def test_each_step_is_made_with_the_edition_of_its_time(self, exchange: Store) -> None:
        """The first edition's clipping norm let the first round's mean pass; the second's would not."""
        first = opened(exchange, seed=4)
        mean = np.concatenate([(first.model[name] - GENESIS[name]).ravel() for name in sorted(GENESIS)])
        strict = replace(SECOND, clipping_norm=float(np.linalg.norm(mean)) / 2, largest_value=0.01)
        put_in_force(strict)
        check(exchange, after(first, charter=strict), strict)

    def test_a_receipt_of_a_foreign_charter_is_refused(self, exchange: Store) -> None:
        """All its signatures are good: the same parties agreed on it, for another federation."""
        foreign = replace(FIRST, edition=2, previous="f0" * 32, federation="elsewhere")
        put_in_force(foreign)
        step = opened(exchange, under=foreign)
        refuses(exchange, after(step), f"{UNTRACEABLE}.* was given under a foreign charter")

    def test_a_receipt_of_a_later_edition_is_refused(self, exchange: Store) -> None:
        put_in_force(SECOND)
        step = opened(exchange, under=SECOND)
        refuses(exchange, after(step), f"{UNTRACEABLE}.* was given under a foreign charter")

    def test_a_receipt_of_an_edition_that_not_all_signed_is_refused(self, exchange: Store) -> None:
        propose("keys", SECOND)
        third = replace(SECOND, edition=3, previous=SECOND.digest)
        put_in_force(third)
        step = opened(exchange, under=SECOND)
        refuses(exchange, after(step, charter=third), f"{UNTRACEABLE}edition 2 .* is not signed by", third)


def back_to(model: str, **changes: Any) -> Charter:
    """The second edition, which takes rounds back."""
    return replace(SECOND, restart=model, **changes)


class TestRestart:
    def test_the_first_round_under_the_edition_starts_from_it(self, exchange: Store) -> None:
        first = opened(exchange)
        second = opened(exchange, first, number=2)
        charter = back_to(first.made)
        put_in_force(charter)
        ticket = after(second, charter=charter)
        check(exchange, replace(ticket, model=first.made), charter)
        text = "^the model of round 9 is not the one that edition 2 of the charter goes back to$"
        for model in (second.made, FIRST.genesis, "ab" * 32):
            refuses(exchange, replace(ticket, model=model), text, charter)

    def test_it_may_be_the_genesis(self, exchange: Store) -> None:
        first = opened(exchange)
        charter = back_to(FIRST.genesis)
        put_in_force(charter)
        check(exchange, replace(after(first, charter=charter), model=FIRST.genesis), charter)

    def test_no_later_round_does(self, exchange: Store) -> None:
        first = opened(exchange)
        charter = back_to(FIRST.genesis)
        put_in_force(charter)
        again = opened(exchange, None, number=2, under=charter, seed=5)
        follows = replace(again.ticket, previous=digest(first.receipt), previous_folder=first.ticket.folder)
        assert follows.model == FIRST.genesis
        check(exchange, after(again, charter=charter), charter)
        text = "is not the one that the last receipt gives"
        refuses(exchange, after(again, charter=charter, model=FIRST.genesis), text, charter)

    def test_a_later_edition_does_not_carry_it_on(self, exchange: Store) -> None:
        """Not even where no round has started from it: that edition says for itself."""
        first = opened(exchange)
        second = opened(exchange, first, number=2)
        charter = back_to(first.made)
        third = replace(charter, edition=3, previous=charter.digest, restart="")
        for each in (charter, third):
            put_in_force(each)
        check(exchange, after(second, charter=third), third)
        text = "is not the one that the last receipt gives"
        refuses(exchange, after(second, charter=third, model=first.made), text, third)

    def test_the_receipts_go_on_or_the_round_does_not(self, exchange: Store, home: Path) -> None:
        """What was taken back is still the last receipt; a ticket that drops it is traced to nothing."""
        first = opened(exchange)
        second = opened(exchange, first, number=2)
        charter = back_to(first.made)
        put_in_force(charter)
        ticket = replace(after(second, charter=charter), model=first.made)
        refuses(exchange, replace(ticket, previous="00" * 32), "not the one the ticket follows from", charter)
        (home / "exchange" / second.ticket.folder / "receipt.json").unlink()
        refuses(exchange, ticket, UNTRACEABLE, charter)

    def test_a_site_that_has_released_since_passes_over_nothing(self, exchange: Store) -> None:
        first = opened(exchange)
        charter = back_to(FIRST.genesis)
        put_in_force(charter)
        again = opened(exchange, None, number=2, under=charter, seed=5)
        offered = replace(after(first, charter=charter), model=FIRST.genesis)
        check(exchange, offered, charter)
        with pytest.raises(RefusedError, match="passes over the receipt of round 2, which is there"):
            check_follows(exchange, "keys", offered, charter, (2, again.ticket.folder))

    @pytest.mark.parametrize("erased", ["aggregate.safetensors", "model"])
    def test_of_whose_receipt_the_sum_is_erased_it_passes_over_nothing_either(
        self, exchange: Store, home: Path, erased: str
    ) -> None:
        """What the coordinator prunes must not let him offer a model once more."""
        first = opened(exchange)
        second = opened(exchange, first, number=2)
        offered = replace(after(first), round_number=3)
        path = f"models/{second.ticket.model}.safetensors" if erased == "model" else ""
        (home / "exchange" / (path or f"{second.ticket.folder}/{erased}")).unlink()
        with pytest.raises(RefusedError, match="passes over the receipt of round 2, which is there"):
            check_follows(exchange, "keys", offered, FIRST, (2, second.ticket.folder))
        (home / "exchange" / second.ticket.folder / "receipt.json").unlink()
        check_follows(exchange, "keys", offered, FIRST, (2, second.ticket.folder))
