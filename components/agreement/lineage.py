"""Where a ticket's model comes from: recomputed by every site, so that none gets one of its own."""

from __future__ import annotations

from components.agreement.charter import Charter
from components.agreement.charter_book import charter_of, is_ancestor
from components.agreement.model_store import read_model
from components.agreement.receipt import (
    MAX_RECEIPT_BYTES,
    opened_sum,
    read_aggregate,
    read_receipt,
    receipt_key,
)
from components.agreement.server_optimizer import next_model
from components.agreement.ticket import Ticket, charter_named, read_ticket
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectMissingError, RefusedError


def check_model(exchange: Store, keys_uri: str, ticket: Ticket, charter: Charter) -> None:
    """Passes a ticket whose model follows from the charter's genesis or from the last receipt.

    Args:
        exchange: store that all parties read.
        keys_uri: folder of the charters.
        ticket: verified.
        charter: that the site has pinned.

    Raises:
        RefusedError: the model is another than the one the signed receipt and the charter's
            optimiser give, or the receipt belongs to no edition this charter follows from.
    """
    try:
        expected = expected_model(exchange, keys_uri, ticket, charter)
    except (IntegrityError, ObjectMissingError) as error:
        text = f"the model of round {ticket.round_number} cannot be traced to the last receipt"
        raise RefusedError(f"{text}: {error}", disclosed=text) from error
    if expected != ticket.model:
        text = (
            f"the model of round {ticket.round_number} is not the one that "
            f"{'the last receipt gives' if ticket.previous else 'the charter starts from'}"
        )
        raise RefusedError(text, disclosed=text)


def expected_model(exchange: Store, keys_uri: str, ticket: Ticket, charter: Charter) -> str:
    """SHA-256 of the model that the ticket's round must start from.

    Raises:
        IntegrityError: the receipt or what it rests on is not what signatures and digests say.
        ObjectMissingError: something of it is not in the exchange.
    """
    if not ticket.previous:
        return charter.genesis
    folder = ticket.previous_folder
    document = exchange.read(receipt_key(folder), limit=MAX_RECEIPT_BYTES)
    if digest(document) != ticket.previous:
        raise IntegrityError(f"the receipt in {folder} is not the one the ticket follows from")
    earlier = exchange.read(f"{folder}/ticket.json", limit=1 << 16)
    named = charter_named(earlier)
    if not is_ancestor(keys_uri, named, charter):
        raise IntegrityError(f"the receipt in {folder} was given under a foreign charter")
    then = charter_of(keys_uri, named)
    parent = read_ticket(earlier, then)
    if parent.folder != folder:
        raise IntegrityError(f"the ticket in {folder} is that of {parent.folder}")
    if parent.round_number >= ticket.round_number:
        raise IntegrityError(
            f"the receipt in {folder} is of round {parent.round_number}, not of an earlier one"
        )
    receipt = read_receipt(document, parent, then)
    total = opened_sum(read_aggregate(exchange, folder, receipt))
    model = next_model(then, read_model(exchange, parent.model), total)
    return digest(tensors.encode(model))
