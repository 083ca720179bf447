from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.agreement.parties import pem, write_private
from components.agreement.ticket import Ticket
from components.agreement.workplace import Workplace, model_key, read_model, run_at_site
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store, open_store
from components.errors import (
    DigestMismatchError,
    IntegrityError,
    ObjectMissingError,
    RefusedError,
    SignatureError,
    UsageError,
)
from components.execution.outcome import Outcome
from tests.components.agreement.signed_form import KEYS, PARTIES, TICKET

MODEL = tensors.encode({"output.bias": np.array([1, 2], np.float32)})
MINE = replace(TICKET, model=digest(MODEL))
REFERENCE = "exchange/rounds/00007-2/ticket.json"


@pytest.fixture(autouse=True)
def keys(home: Path) -> None:
    open_store("keys").create("public.yaml", PARTIES.to_yaml())
    for owner in ("alpha", "delta"):
        write_private(home / f"keys/{owner}/signing.key", pem(KEYS.get(owner, KEYS["beta"])))


def issue(exchange: Store, ticket: Ticket = MINE, *, by: str = "coordinator") -> None:
    exchange.create("rounds/00007-2/ticket.json", ticket.signed(KEYS[by]))


def opened(site: str = "alpha", *, ticket: str = REFERENCE) -> Workplace:
    return Workplace.open(
        site=site, store_uri="store", exchange_uri="exchange", keys_uri="keys", ticket=ticket
    )


def at_site(outcome_of: str = "site", *, ticket: str = REFERENCE, reason: str = "") -> Outcome:
    def work(place: Workplace) -> Outcome:
        place.store.create("worked", str(os.getpid()).encode())
        return Outcome(reference=getattr(place, outcome_of), bytes_sent=12)

    return run_at_site(
        "train",
        work,
        site="alpha",
        store_uri="store",
        exchange_uri="exchange",
        keys_uri="keys",
        ticket=ticket,
        deadline_s=20,
        reason=reason,
    )


def test_holds_the_sites_own_things(exchange: Store) -> None:
    issue(exchange)
    place = opened()
    assert (place.site, place.store.uri, place.exchange.uri) == ("alpha", "store", "exchange")
    assert place.ticket == MINE
    assert place.key.private_bytes_raw() == KEYS["alpha"].private_bytes_raw()


def test_a_ticket_that_does_not_name_the_site_is_refused(exchange: Store) -> None:
    issue(exchange)
    with pytest.raises(RefusedError, match=r"^the ticket of round 7 does not name delta$") as refusal:
        opened("delta")
    assert refusal.value.disclosed == str(refusal.value)


@pytest.mark.parametrize("signer", ["alpha", "key-holder"])
def test_a_ticket_of_somebody_else_is_refused(exchange: Store, signer: str) -> None:
    issue(exchange, by=signer)
    with pytest.raises(SignatureError):
        opened()


def test_a_ticket_of_another_federation_is_refused(exchange: Store) -> None:
    issue(exchange, replace(MINE, federation="elsewhere"))
    with pytest.raises(SignatureError, match="of elsewhere was given to a party of paper"):
        opened()


def test_a_reference_out_of_the_exchange_is_refused(exchange: Store) -> None:
    issue(exchange)
    with pytest.raises(RefusedError, match="does not lie in store 'exchange'"):
        opened(ticket="store/rounds/00007-2/ticket.json")


def test_a_site_without_its_key_is_told_where_it_belongs(exchange: Store, home: Path) -> None:
    issue(exchange)
    with pytest.raises(UsageError, match=rf"no private key at {home}/keys/beta/signing\.key"):
        opened("beta")


def test_the_model_is_the_one_the_ticket_names(exchange: Store) -> None:
    issue(exchange)
    with pytest.raises(ObjectMissingError):
        opened().model()
    exchange.create(model_key(MINE.model), MODEL)
    assert opened().model()["output.bias"].tolist() == [1, 2]


def test_another_model_in_its_place_is_refused(exchange: Store) -> None:
    exchange.create(model_key("ab" * 32), MODEL)
    with pytest.raises(DigestMismatchError, match="not the one with digest abababababab"):
        read_model(exchange, "ab" * 32)
    exchange.create(model_key(digest(b"no tensors")), b"no tensors")
    with pytest.raises(IntegrityError, match="safetensors"):
        read_model(exchange, digest(b"no tensors"))


def test_work_at_a_site_is_done_in_a_process_of_its_own(exchange: Store) -> None:
    issue(exchange)
    assert at_site() == Outcome(reference="alpha", bytes_sent=12)
    assert int(open_store("store").read("worked")) != os.getpid()
    assert json.loads(exchange.read("rounds/00007-2/journal/train-alpha.json"))["bytes"] == 12


def test_a_forged_ticket_becomes_a_reason_and_no_work(exchange: Store) -> None:
    issue(exchange, by="beta")
    assert at_site() == Outcome(
        reason="refused: the signature of coordinator on a ticket document does not verify"
    )
    assert not open_store("store").exists("worked")


def test_a_site_left_out_does_nothing(exchange: Store) -> None:
    assert at_site(ticket="", reason="timeout: augment did not end within 9 s") == Outcome(
        reason="timeout: augment did not end within 9 s"
    )
    assert open_store("store").keys() == exchange.keys() == []
