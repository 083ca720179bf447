"""The cut-off: the one set of sites whose sealed updates are added in an attempt.

It is created once, by whoever adds first, and needs no signature: everybody who acts on it checks
the manifests of its members himself.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from components.agreement.roster import Roster
from components.agreement.ticket import Ticket
from components.artifacts.documents import canonical_json, digest
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectExistsError


@dataclass(frozen=True, kw_only=True)
class Cutoff:
    """Members of the sum, sorted, and why the others of the roster are not in it."""

    roster: str
    members: tuple[str, ...]
    left_out: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """The digest of roster and members, ud."""
        return digest(canonical_json({"roster": self.roster, "members": list(self.members)}))

    def to_json(self) -> bytes:
        """What is stored."""
        return canonical_json(asdict(self) | {"members": list(self.members)})


def cutoff_key(ticket: Ticket) -> str:
    """Where it lies in the exchange."""
    return f"{ticket.folder}/cutoff.json"


def sum_key(ticket: Ticket) -> str:
    """Where the sum of the members' sealed updates lies in the exchange."""
    return f"{ticket.folder}/sum.bin"


def shortfall_key(ticket: Ticket) -> str:
    """Where it is said that too few of the roster sealed or released: the attempt cannot go on."""
    return f"{ticket.folder}/shortfall.json"


def end_attempt(exchange: Store, ticket: Ticket, cutoff: Cutoff) -> None:
    """Marks an attempt that cannot come to anything any more: the next `open_round` voids it."""
    with contextlib.suppress(ObjectExistsError):
        exchange.create(shortfall_key(ticket), cutoff.to_json())


def read_cutoff(exchange: Store, ticket: Ticket, roster: Roster) -> Cutoff:
    """The cut-off of a roster.

    Raises:
        IntegrityError: it names sites that the roster does not, or was fixed for another roster.
    """
    try:
        body = json.loads(exchange.read(cutoff_key(ticket), limit=1 << 20))
        cutoff = Cutoff(
            roster=body["roster"],
            members=tuple(sorted(set(body["members"]))),
            left_out=dict(body["left_out"].items()),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"the cut-off in {ticket.folder} is not in the form this version knows"
        ) from error
    if cutoff.roster != roster.digest or not set(cutoff.members) <= set(roster.sites):
        raise IntegrityError(f"the cut-off in {ticket.folder} does not follow from its roster")
    return cutoff
