"""What sites agree to and refuse in rounds that are real from the first ticket to the commit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.agreement.charter import COORDINATOR
from components.agreement.charter_book import charter_in_force
from components.agreement.private_keys import load_signing_key
from components.agreement.receipt import read_receipt, receipt_key
from components.agreement.ticket import Ticket
from components.agreement.void import void_document, void_key
from components.agreement.workplace import Workplace
from components.artifacts.documents import digest
from components.artifacts.stores import reference
from components.errors import RefusedError
from tests.components.aggregation.three_sites import SITES, ThreeSites, put_in_force


@pytest.fixture(autouse=True)
def at_home(home: Path) -> None:
    """A federation of this test's own."""


def issued(sites: ThreeSites, site: str, ticket: Ticket) -> Workplace:
    """The site at work under a ticket that the coordinator signed beside the one all others have."""
    key = f"special/{ticket.digest}.json"
    sites.exchange.create(key, ticket.signed(load_signing_key(sites.keys_uri, COORDINATOR)))
    return Workplace.open(
        site=site,
        store_uri=f"{sites.name}/sites/{site}",
        exchange_uri=sites.exchange_uri,
        keys_uri=sites.keys_uri,
        ticket=reference(sites.exchange, key),
    )


def refuses(place: Workplace, text: str) -> None:
    with pytest.raises(RefusedError, match=text):
        place.accept(datetime.now(UTC))


def test_every_site_finds_the_model_that_was_committed() -> None:
    first = ThreeSites.start(protection="sealed")
    committed = first.committed()
    second = first.next_round()
    assert second.opened.ticket.model == committed.manifest["model"]
    assert second.opened.ticket.model != first.opened.ticket.model == first.charter.genesis
    for site in SITES:
        second.accepted(site)


def test_no_site_is_handed_a_model_of_its_own() -> None:
    first = ThreeSites.start()
    first.committed()
    second = first.next_round()
    specials: list[tuple[dict[str, Any], str]] = [
        ({"model": "ab" * 32}, "is not the one that the last receipt gives"),
        ({"previous": "", "previous_folder": ""}, "is not the one that the charter starts from"),
        ({"previous": "cd" * 32}, "cannot be traced to the last receipt"),
        ({"round_number": 1, "attempt": 2}, "without a void of the one before"),
    ]
    for change, text in specials:
        refuses(issued(second, "alpha", replace(second.opened.ticket, **change)), text)
    second.accepted("alpha")


def test_no_round_goes_back_to_an_older_model() -> None:
    first = ThreeSites.start()
    first.committed()
    second = first.next_round()
    second.committed()
    third = second.next_round()
    ticket = third.opened.ticket
    third.accepted("beta")
    for origin in (first.opened.ticket, second.opened.ticket):
        change: dict[str, Any] = {
            "model": origin.model,
            "previous": origin.previous,
            "previous_folder": origin.previous_folder,
        }
        old = replace(ticket, round_number=4, **change)
        refuses(issued(third, "beta", old), "starts from an older receipt than an earlier round did")
    issued(third, "beta", replace(ticket, round_number=4)).accept(datetime.now(UTC))


def test_after_a_release_another_attempt_is_refused_and_the_next_round_is_fine() -> None:
    first = ThreeSites.start(protection="sealed")
    first.committed()
    ticket, key = first.opened.ticket, load_signing_key(first.keys_uri, COORDINATOR)
    void = void_document(ticket.digest, 1, "nothing came of it", key)
    first.exchange.create(void_key(ticket.folder), void)
    again = replace(ticket, attempt=2, void=digest(void))
    for site in SITES:
        refuses(
            issued(first, site, replace(again, seed=SITES.index(site))), "has released its masks in another"
        )
    second = first.next_round()
    for site in SITES:
        place = second.accepted(site)
        assert place.store.keys("secrets") == []


def test_a_new_edition_goes_on_where_the_old_one_ended() -> None:
    first = ThreeSites.start(protection="sealed")
    model = first.committed().manifest["model"]
    charter = first.charter
    put_in_force(first.name, replace(charter, edition=2, previous=charter.digest, batch_size=20))
    second = first.next_round()
    following = charter_in_force(second.keys_uri)
    assert (second.opened.ticket.charter, second.opened.ticket.model) == (following.digest, model)
    assert second.committed().manifest["round"] == 2
    last = second.opened.ticket
    receipt = read_receipt(second.exchange.read(receipt_key(last.folder)), last, following)
    assert receipt.previous == digest(first.exchange.read(receipt_key(first.opened.ticket.folder)))
