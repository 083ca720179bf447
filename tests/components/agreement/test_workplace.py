from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.agreement.model_store import model_key
from components.agreement.round_secrets import draw_once
from components.agreement.ticket import Ticket
from components.agreement.void import void_document
from components.agreement.workplace import Workplace
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store, open_store
from components.errors import (
    DigestMismatchError,
    ObjectMissingError,
    RefusedError,
    SignatureError,
    UsageError,
)
from tests.components.agreement.signed_form import CHARTER, KEYS, SITES, TICKET, furnish, put_in_force

MODEL = tensors.encode({"output.bias": np.array([1, 2], np.float32)})
PAPER = replace(CHARTER, genesis=digest(MODEL))
FIRST = replace(
    TICKET,
    charter=PAPER.digest,
    attempt=1,
    void="",
    model=digest(MODEL),
    previous="",
    previous_folder="",
    learning_rate=0.1,
)
NOW = datetime(2026, 11, 22, 10, 0, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def federation(home: Path) -> None:
    put_in_force(PAPER)
    for site in SITES:
        furnish(site, charter=PAPER)


def issue(exchange: Store, ticket: Ticket = FIRST, *, by: str = "coordinator") -> str:
    key = f"{ticket.folder}/ticket.json"
    exchange.create(key, ticket.signed(KEYS[by]))
    return f"exchange/{key}"


def opened(reference: str, site: str = "alpha", **uris: str) -> Workplace:
    free = {"store_uri": "store", "exchange_uri": "exchange", "keys_uri": "keys"}
    return Workplace.open(site=site, ticket=reference, **(free | uris))


def refused(text: str) -> Any:
    return pytest.raises(RefusedError, match=text, check=lambda error: error.disclosed == str(error))


class TestOpening:
    def test_holds_the_sites_own_things(self, exchange: Store) -> None:
        place = opened(issue(exchange))
        assert (place.site, place.store.uri, place.exchange.uri) == ("alpha", "store", "exchange")
        assert (place.ticket, place.charter, place.policy.charter) == (FIRST, PAPER, PAPER.digest)
        assert place.key.private_bytes_raw() == KEYS["alpha"].private_bytes_raw()

    @pytest.mark.parametrize("signer", ["alpha", "key-holder", "delta"])
    def test_a_ticket_of_somebody_else_is_refused(self, exchange: Store, signer: str) -> None:
        reference = issue(exchange, by=signer)
        with pytest.raises(SignatureError, match="the signature of coordinator"):
            opened(reference)

    def test_a_foreign_charter_is_refused_although_all_have_signed_it(self, exchange: Store) -> None:
        second = replace(PAPER, edition=2, previous=PAPER.digest, max_rounds=30)
        put_in_force(second)
        reference = issue(exchange, replace(FIRST, charter=second.digest))
        with refused(f"foreign charter, {second.digest[:12]}: alpha has pinned {PAPER.digest[:12]}$"):
            opened(reference)
        furnish("alpha", charter=second)
        assert opened(reference).charter == second

    def test_the_charter_that_was_left_behind_is_foreign(self, exchange: Store) -> None:
        second = replace(PAPER, edition=2, previous=PAPER.digest, max_rounds=30)
        put_in_force(second)
        furnish("alpha", charter=second)
        with refused(f"foreign charter, {PAPER.digest[:12]}: "):
            opened(issue(exchange))

    def test_a_charter_that_not_all_have_signed_is_refused(self, exchange: Store, home: Path) -> None:
        reference = issue(exchange)
        (home / "keys/charters/00001/signatures/gamma.json").unlink()
        with pytest.raises(SignatureError, match="is not signed by gamma"):
            opened(reference)

    def test_a_site_that_the_charter_does_not_name_is_refused(self, exchange: Store) -> None:
        furnish("delta", charter=PAPER)
        with refused("^the charter of paper does not name delta$"):
            opened(issue(exchange), "delta")

    def test_a_site_without_a_policy_takes_no_part(self, exchange: Store, home: Path) -> None:
        (home / "keys/alpha/policy.yaml").unlink()
        with refused(r"alpha has no policy\.yaml"):
            opened(issue(exchange))

    def test_a_site_without_its_key_is_told_where_it_belongs(self, exchange: Store, home: Path) -> None:
        (home / "keys/beta/signing.key").unlink()
        with pytest.raises(UsageError, match=rf"no private key at {home}/keys/beta/signing\.key"):
            opened(issue(exchange), "beta")

    def test_the_policy_says_under_which_protection(self, exchange: Store) -> None:
        furnish("alpha", charter=PAPER, protections=("masked",))
        with refused("accepts protection masked, the charter has sealed"):
            opened(issue(exchange))

    @pytest.mark.parametrize(
        "uris", [{"store_uri": "elsewhere"}, {"store_uri": "store-evil"}, {"store_uri": "store/../keys"}]
    )
    def test_the_policy_says_where(self, exchange: Store, uris: dict[str, str]) -> None:
        with refused("is not below one that the site's policy admits"):
            opened(issue(exchange), **uris)

    def test_nothing_is_read_from_an_exchange_it_does_not_admit(self, exchange: Store) -> None:
        issue(open_store("exchange-evil"))
        with refused("the address exchange-evil is not below one"):
            opened("exchange-evil/rounds/00007-1/ticket.json", exchange_uri="exchange-evil")

    @pytest.mark.parametrize(
        "change", [{"local_epochs": 6}, {"learning_rate": 0.26}, {"batch_size": 65}, {"round_number": 13}]
    )
    def test_a_parameter_beyond_the_charter_is_refused(self, exchange: Store, change: dict[str, Any]) -> None:
        with refused(f"the charter allows {next(iter(change))} of at most"):
            opened(issue(exchange, replace(FIRST, **change)))

    def test_a_reference_out_of_the_exchange_is_refused(self, exchange: Store) -> None:
        issue(exchange)
        with pytest.raises(RefusedError, match="does not lie in store 'exchange'"):
            opened("store/rounds/00007-1/ticket.json")

    def test_the_model_is_the_one_the_ticket_names(self, exchange: Store) -> None:
        place = opened(issue(exchange))
        with pytest.raises(ObjectMissingError):
            place.model()
        exchange.create(model_key(FIRST.model), MODEL)
        assert place.model()["output.bias"].tolist() == [1, 2]
        exchange.create(model_key("ab" * 32), MODEL)
        with pytest.raises(DigestMismatchError):
            replace(place, ticket=replace(FIRST, model="ab" * 32)).model()

    def test_the_language_model_is_the_charters_and_the_policys(self, exchange: Store) -> None:
        place = opened(issue(exchange))
        place.require_encoder("e2" * 32)
        named = replace(place, charter=replace(PAPER, encoder="e1" * 32))
        named.require_encoder("e1" * 32)
        with refused("digest e2e2e2e2e2e2 is not the one the charter names"):
            named.require_encoder("e2" * 32)
        admits = replace(place, policy=place.policy.model_copy(update={"encoder": "e1" * 32}))
        with refused("is not the one that the site's policy admits"):
            admits.require_encoder("e2" * 32)
        both = replace(named, policy=place.policy.model_copy(update={"encoder": "e2" * 32}))
        for weights in ("e1" * 32, "e2" * 32, ""):
            with pytest.raises(RefusedError):
                both.require_encoder(weights)


class TestAccepting:
    def test_is_done_before_anything_else(self, exchange: Store) -> None:
        place = opened(issue(exchange))
        with refused("has not accepted the ticket of round 7"):
            place.require_accepted()
        place.accept(NOW)
        place.require_accepted()
        place.accept(NOW)

    def test_a_second_ticket_is_refused(self, exchange: Store, home: Path) -> None:
        opened(issue(exchange)).accept(NOW)
        (home / "exchange/rounds/00007-1/ticket.json").unlink()
        place = opened(issue(exchange, replace(FIRST, seed=4)))
        with refused("a second ticket was issued for attempt 1 of round 7"):
            place.accept(NOW)
        with refused("has not accepted"):
            place.require_accepted()

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"attempt": 2}, "attempt 2 of round 7 was opened without a void of the one before"),
            ({"model": "ab" * 32}, "the model of round 7 is not the one that the charter starts from"),
            ({"snapshot": "2026-11-22T10:00:00"}, "is not a time"),
            (
                {"previous": "cd" * 32, "previous_folder": "rounds/00006-1"},
                "the model of round 7 cannot be traced to the last receipt",
            ),
        ],
    )
    def test_a_ticket_that_does_not_follow_is_refused(
        self, exchange: Store, change: dict[str, Any], text: str
    ) -> None:
        place = opened(issue(exchange, replace(FIRST, **change)))
        with pytest.raises(RefusedError, match=text):
            place.accept(NOW)
        with refused("has not accepted"):
            place.require_accepted()
        assert place.store.keys() == []

    def test_the_policys_rounds_a_day(self, exchange: Store) -> None:
        furnish("alpha", charter=PAPER, rounds_a_day=1)
        opened(issue(exchange)).accept(NOW)
        place = opened(issue(exchange, replace(FIRST, round_number=8)))
        with refused("allows 1 rounds a day"):
            place.accept(NOW)
        tomorrow = "2026-11-23T10:00:00+00:00"
        later = opened(issue(exchange, replace(FIRST, round_number=9, snapshot=tomorrow)))
        later.accept(datetime(2026, 11, 23, 10, 0, 5, tzinfo=UTC))

    def test_secrets_of_what_is_over_are_erased(self, exchange: Store) -> None:
        first = opened(issue(exchange))
        first.accept(NOW)
        draw_once(first.store, first.key, FIRST.digest)
        void = void_document(FIRST.digest, 7, "too few sites", KEYS["coordinator"])
        exchange.create("rounds/00007-1/void.json", void)
        second = opened(issue(exchange, replace(FIRST, attempt=2, void=digest(void))))
        second.accept(NOW)
        assert second.store.keys("secrets") == []

    def test_a_resumed_ticket_keeps_its_secrets(self, exchange: Store) -> None:
        place = opened(issue(exchange))
        place.accept(NOW)
        drawn = draw_once(place.store, place.key, FIRST.digest)
        place.accept(NOW)
        assert draw_once(place.store, place.key, FIRST.digest).seed == drawn.seed

    @pytest.mark.parametrize(
        "change",
        [
            {"round_number": 6},
            {"round_number": 8, "snapshot": "2026-11-21T10:00:00+00:00"},
            {"round_number": 8, "model": "ab" * 32},
            {"attempt": 2},
        ],
    )
    def test_a_refused_ticket_erases_nothing(self, exchange: Store, change: dict[str, Any]) -> None:
        """Else whoever issues one could make every site forget what it needs for the round under way."""
        place = opened(issue(exchange))
        place.accept(NOW)
        draw_once(place.store, place.key, FIRST.digest)
        before = place.store.keys()
        other = opened(issue(exchange, replace(FIRST, **change)))
        with pytest.raises(RefusedError):
            other.accept(NOW)
        assert place.store.keys() == before
