"""Where a ticket's model comes from: recomputed by every site, so that none gets one of its own.

A round starts from the model that the last receipt gives. The one exception is the first round under an
edition that takes rounds back: it starts from the model that this edition, which all sites have signed,
names as its `restart`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from components.agreement.charter import Charter
from components.agreement.charter_book import charter_of, is_ancestor
from components.agreement.model_store import read_committed
from components.agreement.receipt import (
    MAX_RECEIPT_BYTES,
    Receipt,
    opened_sum,
    read_aggregate,
    read_receipt,
    receipt_key,
)
from components.agreement.server_optimizer import next_model
from components.agreement.ticket import METRICS, UPDATE, Ticket, charter_named, read_ticket
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectMissingError, RefusedError


def check_model(exchange: Store, keys_uri: str, ticket: Ticket, charter: Charter) -> None:
    """Passes a ticket whose model follows from the genesis, the last receipt, or the edition's `restart`.

    Args:
        exchange: store that all parties read.
        keys_uri: folder of the charters.
        ticket: verified.
        charter: that the site has pinned.

    Raises:
        RefusedError: the model is another than the one that the signed receipt and the charter's optimiser
            give, or that the edition goes back to, or the receipt belongs to no edition this charter
            follows from.
    """
    try:
        expected = expected_model(exchange, keys_uri, ticket, charter)
    except (IntegrityError, ObjectMissingError) as error:
        text = f"the model of round {ticket.round_number} cannot be traced to the last receipt"
        raise RefusedError(f"{text}: {error}", disclosed=text) from error
    if expected != ticket.model:
        source = "the last receipt gives" if ticket.previous else "the charter starts from"
        if expected == charter.restart:
            source = f"edition {charter.edition} of the charter goes back to"
        text = f"the model of round {ticket.round_number} is not the one that {source}"
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
        RefusedError: that round has a receipt that gives a model, or whose sum is erased, and the ticket
            starts from an earlier one.
    """
    round_number, folder = released
    origin = int(ticket.previous_folder.removeprefix("rounds/").partition("-")[0] or 0)
    if not origin < round_number < ticket.round_number:
        return
    try:
        opened = opened_round(exchange, keys_uri, folder, charter)
        with contextlib.suppress(ObjectMissingError):
            # A receipt whose sum or model is gone was committed: nothing else of an exchange is erased.
            _model_after(exchange, opened)
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
        return charter.restart or charter.genesis
    last = round_before(exchange, keys_uri, ticket, charter)
    if goes_back(charter, last.charter.digest):
        return charter.restart
    return _model_after(exchange, last)


def goes_back(charter: Charter, last: str) -> bool:
    """Whether the next round starts from an edition's `restart`: the first under it does, no other.

    Args:
        charter: of the next round.
        last: cd of the last committed round, empty before the first.
    """
    return bool(charter.restart) and last != charter.digest


@dataclass(frozen=True, kw_only=True)
class OpenedRound:
    """A round whose sum was opened: its ticket and receipt, verified, and the edition of both."""

    ticket: Ticket
    receipt: Receipt
    charter: Charter


def round_before(exchange: Store, keys_uri: str, ticket: Ticket, charter: Charter) -> OpenedRound:
    """The round whose receipt a ticket follows from.

    Args:
        exchange: store that all parties read.
        keys_uri: folder of the charters.
        ticket: verified; it names a receipt.
        charter: of the ticket.

    Raises:
        IntegrityError: the receipt is not the one that the ticket names, is of no earlier round (of metrics:
            not of the very round they are of), or was given under no edition that `charter` follows from.
        ObjectMissingError: it is not in the exchange.
    """
    folder = ticket.previous_folder
    document = exchange.read(receipt_key(folder), limit=MAX_RECEIPT_BYTES)
    if digest(document) != ticket.previous:
        raise IntegrityError(f"the receipt in {folder} is not the one the ticket follows from")
    opened = opened_round(exchange, keys_uri, folder, charter)
    if ticket.purpose == METRICS:
        _require_same_round(ticket, opened)
    elif opened.ticket.round_number >= ticket.round_number:
        raise IntegrityError(
            f"the receipt in {folder} is of round {opened.ticket.round_number}, not of an earlier one"
        )
    return opened


def _require_same_round(ticket: Ticket, opened: OpenedRound) -> None:
    """Passes a ticket for metrics that belongs to this round: what was agreed for it, it says again."""
    own = (ticket.charter, ticket.round_number, ticket.attempt, ticket.snapshot)
    of_round = opened.ticket
    if own != (of_round.charter, of_round.round_number, of_round.attempt, of_round.snapshot):
        raise IntegrityError(
            f"the ticket in {ticket.folder} is not for the metrics of the round in {of_round.folder}"
        )
    if of_round.purpose != UPDATE:
        raise IntegrityError(f"the receipt in {of_round.folder} is not that of an update")


def opened_round(exchange: Store, keys_uri: str, folder: str, charter: Charter) -> OpenedRound:
    """The round in a folder of the exchange, verified under the edition that its ticket names.

    Args:
        exchange: store that all parties read.
        keys_uri: folder of the charters.
        folder: of the attempt.
        charter: that the edition must be, or one it follows from.

    Raises:
        IntegrityError: ticket or receipt is not what it should be.
        ObjectMissingError: one of them is not there.
    """
    document = exchange.read(receipt_key(folder), limit=MAX_RECEIPT_BYTES)
    earlier = exchange.read(f"{folder}/ticket.json", limit=1 << 16)
    named = charter_named(earlier)
    if not is_ancestor(keys_uri, named, charter):
        raise IntegrityError(f"the receipt in {folder} was given under a foreign charter")
    then = charter_of(keys_uri, named)
    ticket = read_ticket(earlier, then)
    if ticket.folder != folder:
        raise IntegrityError(f"the ticket in {folder} is that of {ticket.folder}")
    return OpenedRound(ticket=ticket, receipt=read_receipt(document, ticket, then), charter=then)


def _model_after(exchange: Store, opened: OpenedRound) -> str:
    """SHA-256 of the model that an opened sum gives."""
    total = opened_sum(read_aggregate(exchange, opened.ticket.folder, opened.receipt))
    model = next_model(
        opened.charter,
        read_committed(exchange, opened.ticket.model),
        total,
        round_number=opened.ticket.round_number,
        members=len(opened.receipt.members),
    )
    return digest(tensors.encode(model))
