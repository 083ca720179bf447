from __future__ import annotations

from dataclasses import replace

import pytest

from components.agreement.attempt import Attempt
from components.agreement.commitment import commit
from components.agreement.cutoff import Cutoff, cutoff_key
from components.agreement.roster import roster_key
from components.artifacts.stores import Store, open_store
from components.errors import IntegrityError, ObjectMissingError, RefusedError, SignatureError, StoreError
from tests.components.agreement.signed_form import KEYS, OTHER_TICKETS, PARTIES, ROSTER, TICKET

KEY = f"{TICKET.folder}/ticket.json"


@pytest.fixture(autouse=True)
def published(exchange: Store) -> None:
    open_store("keys").create("public.yaml", PARTIES.to_yaml())


def opened(reference: str = f"exchange/{KEY}") -> Attempt:
    return Attempt.open(reference, exchange_uri="exchange", keys_uri="keys")


def test_opens_what_the_reference_names(exchange: Store) -> None:
    exchange.create(KEY, TICKET.signed(KEYS["coordinator"]))
    assert opened().ticket == TICKET
    assert opened().parties.federation == "paper"


def test_a_ticket_of_somebody_else_is_refused(exchange: Store) -> None:
    exchange.create(KEY, TICKET.signed(KEYS["alpha"]))
    with pytest.raises(SignatureError):
        opened()


@pytest.mark.parametrize(
    "reference", ["", "elsewhere/a", "exchange", "exchange/", "exchange/../keys/public.yaml"]
)
def test_a_reference_out_of_the_exchange_is_refused(reference: str) -> None:
    with pytest.raises(RefusedError, match="does not lie in store 'exchange'"):
        opened(reference)


def test_a_missing_or_oversized_ticket_is_not_read(exchange: Store) -> None:
    with pytest.raises(ObjectMissingError):
        opened()
    exchange.create(KEY, bytes((1 << 16) + 1))
    with pytest.raises(StoreError, match="at most 65536 are read"):
        opened()


def test_roster_and_cutoff_are_those_of_the_ticket(exchange: Store) -> None:
    exchange.create(KEY, TICKET.signed(KEYS["coordinator"]))
    with pytest.raises(ObjectMissingError):
        opened().roster()
    exchange.create(roster_key(TICKET), ROSTER.signed(KEYS["coordinator"]))
    assert opened().roster() == ROSTER
    cutoff = Cutoff(roster=ROSTER.digest, members=("gamma",), left_out={"alpha": "oom"})
    exchange.create(cutoff_key(TICKET), cutoff.to_json())
    assert opened().cutoff(ROSTER) == cutoff
    with pytest.raises(IntegrityError, match="does not follow from its roster"):
        opened().cutoff(replace(ROSTER, commitments={"gamma": "00" * 32}))
    with pytest.raises(ObjectMissingError):
        opened().sealed(ROSTER, "gamma")


def test_a_roster_of_another_ticket_is_refused(exchange: Store) -> None:
    exchange.create(KEY, TICKET.signed(KEYS["coordinator"]))
    replayed = replace(ROSTER, ticket=OTHER_TICKETS[0].digest)
    exchange.create(roster_key(TICKET), replayed.signed(KEYS["coordinator"]))
    with pytest.raises(SignatureError, match="was made for another ticket"):
        opened().roster()


def test_a_commitment_is_no_roster(exchange: Store) -> None:
    exchange.create(KEY, TICKET.signed(KEYS["coordinator"]))
    exchange.create(roster_key(TICKET), commit(TICKET, "alpha", b"", b"").signed(KEYS["coordinator"]))
    with pytest.raises(SignatureError):
        opened().roster()
