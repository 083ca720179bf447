"""What a site refuses before it takes part: foreign charters, tickets that ask too much, special models."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.agreement.charter import KEY_HOLDER, Charter, SitePublicKeys
from components.agreement.charter_book import DOMAIN, charter_key, propose, signature_key
from components.agreement.model_store import model_key
from components.agreement.receipt import Receipt, aggregate_key, read_receipt, receipt_key
from components.agreement.roster import roster_key
from components.agreement.void import void_document, void_key
from components.artifacts import tensors
from components.artifacts.documents import digest, sign
from components.artifacts.stores import open_store, reference
from components.errors import RefusedError, SignatureError, UsageError
from tests.components.aggregation.three_sites import ThreeSites, set_policy
from tests.components.encryption.refusals.walk import (
    WalkTo,
    ask,
    goes_on,
    put,
    refused,
    signing_key,
)


def public_text(key: Ed25519PrivateKey | X25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def next_edition(three: ThreeSites, sites: Mapping[str, SitePublicKeys]) -> Charter:
    """An edition with these sites as a malicious coordinator lays it out: past `propose`."""
    before = three.charter
    charter = replace(before, edition=2, previous=before.digest, sites={**before.sites, **sites})
    open_store(three.keys_uri).create(charter_key(2), charter.to_json())
    return charter


def sign_as(three: ThreeSites, charter: Charter, signer: str, key: Ed25519PrivateKey) -> None:
    document = sign(key, domain=DOMAIN, signer=signer, body={"charter": charter.digest})
    open_store(three.keys_uri).create(signature_key(charter.edition, signer), document)


def swapped_key(three: ThreeSites) -> Charter:
    """The coordinator puts keys of its own in beta's place and signs for beta with them."""
    own = Ed25519PrivateKey.generate()
    keys = SitePublicKeys(signing=public_text(own), agreement=public_text(X25519PrivateKey.generate()))
    charter = next_edition(three, {"beta": keys})
    sign_as(three, charter, "beta", own)
    return charter


class TestCharter:
    def test_a_swapped_key_is_a_foreign_charter_to_who_has_not_signed_it(self, walk_to: WalkTo) -> None:
        three = walk_to("opened").three
        asked = ask(three, "offers/ticket.json", charter=swapped_key(three).digest)
        with refused(three, RefusedError, "the ticket names a foreign charter"):
            asked.accepted("alpha")
        three.accepted("alpha")

    def test_a_swapped_key_is_refused_by_who_was_talked_into_signing_it(self, walk_to: WalkTo) -> None:
        three = walk_to("opened").three
        before = three.charter
        charter = swapped_key(three)
        set_policy(three.name, "alpha", charter=charter.digest, protections=("sealed",))
        sign_as(three, charter, "alpha", signing_key(three, "alpha"))
        asked = ask(three, "offers/ticket.json", charter=charter.digest)
        with refused(three, SignatureError, "edition 2 of the charter is not signed by gamma, key-holder"):
            asked.accepted("alpha")
        # The others' signatures of the edition before are genuine, and of something else.
        store = open_store(three.keys_uri)
        for signer in ("gamma", KEY_HOLDER):
            store.create(signature_key(2, signer), store.read(signature_key(1, signer)))
        with refused(three, SignatureError, "the signature of gamma is of another charter"):
            asked.accepted("alpha")
        set_policy(three.name, "alpha", charter=before.digest, protections=("sealed",))
        goes_on(three)

    @pytest.mark.parametrize("kind", ["agreement", "signing"])
    def test_a_duplicate_key_is_refused_though_all_have_signed(self, walk_to: WalkTo, kind: str) -> None:
        """Two names with one key are one party that counts twice."""
        three = walk_to("opened").three
        before = three.charter
        twice = replace(before.sites["gamma"], **{kind: getattr(before.sites["beta"], kind)})
        with refused(three, UsageError, "have the same public key, keys must be distinct"):
            sites = {**before.sites, "gamma": twice}
            propose(three.keys_uri, replace(before, edition=2, previous=before.digest, sites=sites))
        charter = next_edition(three, {"gamma": twice})
        for signer in charter.signers:
            owner = "beta" if (signer, kind) == ("gamma", "signing") else signer
            sign_as(three, charter, signer, signing_key(three, owner))
        set_policy(three.name, "alpha", charter=charter.digest, protections=("sealed",))
        asked = ask(three, "offers/ticket.json", charter=charter.digest)
        with refused(three, SignatureError, "no edition of the charter has digest"):
            asked.accepted("alpha")

    def test_an_edition_that_breaks_a_rule_does_not_stop_rounds_under_another(self, walk_to: WalkTo) -> None:
        three = walk_to("opened").three
        next_edition(three, {"gamma": three.charter.sites["beta"]})
        goes_on(three)

    def test_the_charter_before_the_one_it_has_signed_last_is_foreign(self, walk_to: WalkTo) -> None:
        """Terms that were tightened since do not come back."""
        three = walk_to("opened").three
        tighter = replace(three.charter, edition=2, previous=three.charter.digest, max_rounds=50)
        set_policy(three.name, "alpha", charter=tighter.digest, protections=("sealed",))
        with refused(three, RefusedError, "the ticket names a foreign charter"):
            three.accepted("alpha")


BEYOND_THE_BOUNDS = {
    "local_epochs": 11,
    "learning_rate": 1000.5,
    "batch_size": 1001,
    "round_number": 101,
}


def changed(name: str, value: float) -> dict[str, Any]:
    return {name: value}


class TestTicket:
    @pytest.mark.parametrize("name", BEYOND_THE_BOUNDS)
    def test_a_loosened_parameter_is_refused(self, walk_to: WalkTo, name: str) -> None:
        three = walk_to("opened").three
        value = BEYOND_THE_BOUNDS[name]
        asked = ask(three, "offers/ticket.json", **changed(name, value))
        bound = f"the charter allows {name} of at most {getattr(three.charter, name, 100):g}"
        with refused(three, RefusedError, f"{bound}, the ticket asks for {value:g}"):
            asked.accepted("alpha")
        three.accepted("alpha")

    @pytest.mark.parametrize("name", ["local_epochs", "learning_rate", "batch_size"])
    def test_a_parameter_below_any_sense_is_refused(self, walk_to: WalkTo, name: str) -> None:
        three = walk_to("opened").three
        asked = ask(three, "offers/ticket.json", **changed(name, 0))
        with refused(three, RefusedError, f"the charter allows {name} of at most"):
            asked.accepted("alpha")

    def test_a_ticket_that_another_site_signed_is_refused(self, walk_to: WalkTo) -> None:
        three = walk_to("opened").three
        asked = ask(three, "offers/ticket.json", signer="beta", seed=4)
        with refused(three, SignatureError, "the signature of coordinator on a ticket document"):
            asked.accepted("alpha")
        three.accepted("alpha")

    def test_a_foreign_purpose_is_refused(self, walk_to: WalkTo) -> None:
        three = walk_to("opened").three
        asked = ask(three, "offers/ticket.json", purpose="audit")
        with refused(three, SignatureError, "no such round, attempt or purpose"):
            asked.accepted("alpha")
        three.accepted("alpha")

    def test_a_second_ticket_for_one_attempt_is_refused(self, walk_to: WalkTo) -> None:
        three = walk_to("opened").three
        three.accepted("alpha")
        second = ask(three, "offers/ticket.json", seed=4)
        with refused(three, RefusedError, "a second ticket was issued for attempt 1 of round 1"):
            second.accepted("alpha")
        three.accepted("alpha")

    def test_a_step_under_a_ticket_that_it_has_not_accepted_is_refused(self, walk_to: WalkTo) -> None:
        three = walk_to("sealed").three
        second = ask(three, "offers/ticket.json", seed=4)
        with refused(three, RefusedError, "has not accepted the ticket of round 1"):
            second.seal(reference(three.exchange, roster_key(three.opened.ticket)), ["alpha"])
        with refused(three, RefusedError, "has not accepted the ticket of round 1"):
            second.release(["alpha"])

    def test_a_replayed_round_is_refused(self, walk_to: WalkTo) -> None:
        first = walk_to("committed").three
        second = first.next_round()
        second.accepted("alpha")
        with refused(first, RefusedError, "round 1 was replayed: the site has taken part in round 2 since"):
            first.accepted("alpha")
        goes_on(second)

    def test_a_snapshot_that_goes_back_is_refused(self, walk_to: WalkTo) -> None:
        first = walk_to("committed").three
        second = first.next_round()
        asked = ask(second, "offers/ticket.json", snapshot="2020-01-01T00:00:00+00:00")
        with refused(second, RefusedError, "data never go back"):
            asked.accepted("alpha")
        second.accepted("alpha")

    def test_a_second_attempt_without_a_void_is_refused(self, walk_to: WalkTo) -> None:
        three = walk_to("sealed").three
        text = "attempt 2 of round 1 was opened without a void of the one before"
        unvoided = ask(three, "offers/first.json", attempt=2, void="")
        with refused(three, RefusedError, text):
            unvoided.accepted("alpha")
        # Only the coordinator ends attempts.
        forged = void_document(three.opened.ticket.digest, 1, "timeout", signing_key(three, "beta"))
        put(three, void_key(three.opened.ticket.folder), forged)
        voided = ask(three, "offers/second.json", attempt=2, void=digest(forged))
        with refused(three, RefusedError, text):
            voided.accepted("alpha")
        (three.exchange_folder / void_key(three.opened.ticket.folder)).unlink()
        goes_on(three)

    def test_a_second_attempt_after_a_release_is_refused(self, walk_to: WalkTo) -> None:
        """The void is the coordinator's own: he may lie, the site has its record."""
        three = walk_to("released").three
        second = voided(three)
        with refused(second, RefusedError, "the site has released its masks in another attempt of round 1"):
            second.accepted("alpha")
        (three.exchange_folder / void_key(three.opened.ticket.folder)).unlink()
        goes_on(three)

    def test_what_is_erased_with_an_attempt_is_not_released_any_more(self, walk_to: WalkTo) -> None:
        """A release in each of two attempts would be two sums, and their difference one site's update."""
        first = walk_to("summed").three
        second = voided(first)
        second.accepted("alpha")
        with refused(first, RefusedError, "the site has erased its secrets of attempt 1 of round 1"):
            first.release(["alpha"])
        # Nothing was used up by that: the second attempt is released in.
        goes_on(second)


class TestModel:
    """A model made for one site would make that site's update tell about its rows what the sum does not."""

    def test_a_special_first_model_is_refused(self, walk_to: WalkTo) -> None:
        three = walk_to("opened").three
        asked = ask(three, "offers/ticket.json", model=special_model(three))
        with refused(three, RefusedError, "is not the one that the charter starts from"):
            asked.accepted("alpha")
        three.accepted("alpha")

    def test_a_special_later_model_is_refused(self, walk_to: WalkTo) -> None:
        second = walk_to("committed").three.next_round()
        asked = ask(second, "offers/ticket.json", model=special_model(second))
        with refused(second, RefusedError, "is not the one that the last receipt gives"):
            asked.accepted("alpha")
        second.accepted("alpha")

    def test_a_receipt_that_the_key_holder_did_not_give_is_refused(self, walk_to: WalkTo) -> None:
        """The coordinator invents a sum that leads to the model it wants."""
        first = walk_to("committed").three
        second = first.next_round()
        folder = "rounds/00001-7"
        given = read_given(first)
        content = tensors.encode({"aggregate": np.append(np.ones(28), 10.0)})
        forged = replace(given, aggregate=digest(content)).signed(signing_key(first, "coordinator"))
        put(first, f"{folder}/ticket.json", first.exchange.read(f"{first.opened.ticket.folder}/ticket.json"))
        put(first, receipt_key(folder), forged)
        put(first, aggregate_key(folder), content)
        asked = ask(second, "offers/ticket.json", previous=digest(forged), previous_folder=folder)
        with refused(second, RefusedError, "cannot be traced to the last receipt"):
            asked.accepted("alpha")
        second.accepted("alpha")

    def test_a_sum_other_than_the_receipts_is_refused(self, walk_to: WalkTo) -> None:
        first = walk_to("committed").three
        second = first.next_round()
        key = aggregate_key(first.opened.ticket.folder)
        genuine = first.exchange.read(key)
        put(first, key, tensors.encode({"aggregate": np.append(np.ones(28), 10.0)}))
        with refused(second, RefusedError, "is not the one its receipt signs"):
            second.accepted("alpha")
        put(first, key, genuine)
        second.accepted("alpha")

    def test_a_round_that_starts_from_the_genesis_again_is_refused(self, walk_to: WalkTo) -> None:
        """Another sum of the same sites' updates of the same model, less one site, is that site's update."""
        first = walk_to("committed").three
        second = first.next_round()
        second.accepted("alpha")
        asked = ask(second, round_number=3, **earlier_model(first))
        with refused(second, RefusedError, "receipt"):
            asked.accepted("alpha")
        second.accepted("alpha")

    def test_a_round_that_starts_from_an_earlier_receipt_is_refused(self, walk_to: WalkTo) -> None:
        second = walk_to("committed").three.next_round()
        second.committed()
        third = second.next_round()
        third.accepted("alpha")
        asked = ask(third, round_number=4, **earlier_model(second))
        with refused(third, RefusedError, "receipt"):
            asked.accepted("alpha")
        third.accepted("alpha")

    def test_a_round_that_passes_over_the_receipt_of_the_one_before_is_refused(self, walk_to: WalkTo) -> None:
        """The site has released in round 1 and its receipt is there: round 2 has to follow from it."""
        first = walk_to("committed").three
        asked = ask(first, "offers/ticket.json", round_number=2, **earlier_model(first))
        with refused(first, RefusedError, "receipt"):
            asked.accepted("alpha")
        goes_on(first.next_round())


def earlier_model(three: ThreeSites) -> dict[str, Any]:
    """What a ticket says that starts from the same model as this one."""
    names = ("model", "previous", "previous_folder")
    return {name: getattr(three.opened.ticket, name) for name in names}


def special_model(three: ThreeSites) -> str:
    """Lays a model where sites read it, and returns its digest."""
    model = {name: values + np.float32(1) for name, values in three.model(three.opened.ticket.model).items()}
    content = tensors.encode(model)
    three.exchange.create(model_key(digest(content)), content)
    return digest(content)


def read_given(three: ThreeSites) -> Receipt:
    ticket = three.opened.ticket
    return read_receipt(three.exchange.read(receipt_key(ticket.folder)), ticket, three.charter)


def voided(three: ThreeSites) -> ThreeSites:
    """The coordinator ends the attempt, whatever has happened in it, and opens the next."""
    ticket = three.opened.ticket
    document = void_document(ticket.digest, ticket.round_number, "timeout", signing_key(three, "coordinator"))
    three.exchange.create(void_key(ticket.folder), document)
    return ask(three, attempt=ticket.attempt + 1, void=digest(document))
