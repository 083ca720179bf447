"""The roster: who takes part in an attempt, and to which update each one is bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.parties import COORDINATOR, Parties
from components.agreement.ticket import Ticket
from components.artifacts.documents import canonical_json, digest, sign, verify
from components.errors import SignatureError

DOMAIN = "roster"


@dataclass(frozen=True, kw_only=True)
class Roster:
    """Commitments of one ticket and why the other sites are left out.

    Attributes:
        ticket: td.
        commitments: SHA-256 commitment by site that takes part.
        left_out: reason by site that does not.
    """

    ticket: str
    commitments: Mapping[str, str]
    left_out: Mapping[str, str]

    @property
    def digest(self) -> str:
        """rd, over what binds: the ticket and the commitments in the order of the sites' names."""
        return digest(canonical_json({"ticket": self.ticket, "commitments": dict(self.commitments)}))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of those who take part, sorted."""
        return tuple(sorted(self.commitments))

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the coordinator publishes."""
        body = {"ticket": self.ticket, "commitments": dict(self.commitments), "left_out": dict(self.left_out)}
        return sign(key, domain=DOMAIN, signer=COORDINATOR, body=body)


def roster_key(ticket: Ticket) -> str:
    """Where it lies in the exchange."""
    return f"{ticket.folder}/roster.json"


def read_roster(document: bytes, ticket: Ticket, parties: Parties) -> Roster:
    """Verifies the roster of a ticket.

    Raises:
        SignatureError: altered, or made for another ticket.
    """
    body: dict[str, Any] = verify(document, domain=DOMAIN, signer=COORDINATOR, key=parties.key(COORDINATOR))
    try:
        roster = Roster(**body)
    except TypeError:
        raise SignatureError("a roster is not in the form this version knows") from None
    if roster.ticket != ticket.digest:
        raise SignatureError(f"the roster in {ticket.folder} was made for another ticket")
    return roster
