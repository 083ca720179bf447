"""Whether an attempt still waits for a site, asked before the site takes it up and pays for it."""

from __future__ import annotations

import contextlib

from components.agreement.charter import Charter
from components.agreement.receipt import MAX_RECEIPT_BYTES, read_receipt, receipt_key
from components.agreement.roster import read_roster, roster_key
from components.agreement.ticket import Ticket
from components.agreement.void import is_void
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectMissingError, RefusedError


def require_open(exchange: Store, ticket: Ticket, charter: Charter, site: str) -> None:
    """Passes an attempt that the site can still take part in.

    A request may reach a site late: its cluster was away, or its agent. To take up an attempt that has gone
    on without it would spend its privacy budget, and a round of its day, on nothing. What is not what it
    should be (a forged void, a junk receipt) ends nothing here; later steps refuse it for what it is.

    Args:
        exchange: store that all parties read.
        ticket: verified.
        charter: that the site has pinned.
        site: its name.

    Raises:
        RefusedError: the attempt is void, its receipt is there, or its roster was called without the site.
    """
    how = ""
    with contextlib.suppress(IntegrityError, ObjectMissingError):
        if is_void(exchange, ticket, charter):
            how = "is void"
    with contextlib.suppress(IntegrityError, ObjectMissingError):
        roster = read_roster(exchange.read(roster_key(ticket), limit=1 << 20), ticket, charter)
        if site not in roster.sites:
            how = f"went on without {site}"
    with contextlib.suppress(IntegrityError, ObjectMissingError):
        read_receipt(exchange.read(receipt_key(ticket.folder), limit=MAX_RECEIPT_BYTES), ticket, charter)
        how = "has ended"
    if how:
        text = f"attempt {ticket.attempt} of round {ticket.round_number} {how}: it is too late to take part"
        raise RefusedError(text, disclosed=text)
