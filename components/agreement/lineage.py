"""Where a ticket's model comes from: recomputed by every site, so that none gets one of its own."""

from __future__ import annotations

from components.agreement.charter import Charter
from components.agreement.charter_book import charter_of, is_ancestor
from components.agreement.model_store import read_committed
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


def check_follows(
    exchange: Store, keys_uri: str, ticket: Ticket, charter: Charter, released: tuple[int, str]
) -> None:
    """Passes a ticket that does not pass over the receipt of the last round the site has released in.

    Two sums of updates of one model, of different sites, would give away their difference.

    Args:
        exchange: store that all parties read.
        keys_uri: folder of the charters.
        ticket: verified.
        charter: that the site has pinned.
        released: round and folder of the newest attempt the site has released in; (0, "") before any.

    Raises:
        RefusedError: that round has a receipt that gives a model, and the ticket starts from an earlier one.
    """
    round_number, folder = released
    origin = int(ticket.previous_folder.removeprefix("rounds/").partition("-")[0] or 0)
    if not origin < round_number < ticket.round_number:
        return
    try:
        _model_after(exchange, keys_uri, folder, charter)
    except (IntegrityError, ObjectMissingError):
        return
    text = f"round {ticket.round_number} passes over the receipt of round {round_number}, which is there"
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
    round_number, model = _model_after(exchange, keys_uri, folder, charter)
    if round_number >= ticket.round_number:
        raise IntegrityError(f"the receipt in {folder} is of round {round_number}, not of an earlier one")
    return model


def _model_after(exchange: Store, keys_uri: str, folder: str, charter: Charter) -> tuple[int, str]:
    """Round of the receipt in a folder, and SHA-256 of the model it gives."""
    document = exchange.read(receipt_key(folder), limit=MAX_RECEIPT_BYTES)
    earlier = exchange.read(f"{folder}/ticket.json", limit=1 << 16)
    named = charter_named(earlier)
    if not is_ancestor(keys_uri, named, charter):
        raise IntegrityError(f"the receipt in {folder} was given under a foreign charter")
    then = charter_of(keys_uri, named)
    parent = read_ticket(earlier, then)
    if parent.folder != folder:
        raise IntegrityError(f"the ticket in {folder} is that of {parent.folder}")
    receipt = read_receipt(document, parent, then)
    total = opened_sum(read_aggregate(exchange, folder, receipt))
    model = next_model(
        then,
        read_committed(exchange, parent.model),
        total,
        round_number=parent.round_number,
        members=len(receipt.members),
    )
    return parent.round_number, digest(tensors.encode(model))
