"""The roster: who takes part in an attempt, and to which commitment each one is bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import COORDINATOR, Charter
from components.agreement.commitment import Commitment, commitment_key, read_commitment
from components.agreement.document_form import well_formed
from components.agreement.ticket import Ticket
from components.artifacts.documents import canonical_json, digest, sign, verify
from components.artifacts.stores import Store
from components.errors import ObjectMissingError, SignatureError

DOMAIN = "roster"


@dataclass(frozen=True, kw_only=True)
class Roster:
    """Commitments of one ticket and why the other sites are left out.

    Attributes:
        charter: cd.
        ticket: td.
        commitments: SHA-256 of the signed commitment by site that takes part; it binds the
            ephemeral keys too.
        left_out: reason by site that does not.
    """

    charter: str
    ticket: str
    commitments: Mapping[str, str]
    left_out: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """rd, over what binds: charter, ticket and commitments in the order of the sites' names."""
        body = {"charter": self.charter, "ticket": self.ticket, "commitments": dict(self.commitments)}
        return digest(canonical_json(body))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of those who take part, sorted."""
        return tuple(sorted(self.commitments))

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the coordinator publishes."""
        body = {
            "charter": self.charter,
            "ticket": self.ticket,
            "commitments": dict(self.commitments),
            "left_out": dict(self.left_out),
        }
        return sign(key, domain=DOMAIN, signer=COORDINATOR, body=body)


def roster_key(ticket: Ticket) -> str:
    """Where it lies in the exchange."""
    return f"{ticket.folder}/roster.json"


def read_roster(document: bytes, ticket: Ticket, charter: Charter) -> Roster:
    """Verifies the roster of a ticket.

    Raises:
        SignatureError: altered, made for another ticket, or it names a site that the charter does not.
    """
    body: dict[str, Any] = verify(document, domain=DOMAIN, signer=COORDINATOR, key=charter.key(COORDINATOR))
    try:
        roster = well_formed(Roster(**body))
    except TypeError:
        raise SignatureError("a roster is not in the form this version knows") from None
    strangers = sorted(set(roster.commitments) - set(charter.sites))
    if (roster.charter, roster.ticket) != (ticket.charter, ticket.digest):
        raise SignatureError(f"the roster in {ticket.folder} was made for another ticket")
    if strangers:
        raise SignatureError(
            f"the roster in {ticket.folder} names {strangers[0]}, which the charter does not"
        )
    return roster


def read_commitments(
    exchange: Store, ticket: Ticket, roster: Roster, charter: Charter
) -> dict[str, Commitment]:
    """The commitments that a roster names, verified one by one.

    Raises:
        SignatureError: one is missing, altered, or not the one the roster names.
    """
    found: dict[str, Commitment] = {}
    for site in roster.sites:
        try:
            document = exchange.read(commitment_key(ticket, site), limit=1 << 16)
        except ObjectMissingError:
            raise SignatureError(f"the roster names {site}, whose commitment is not there") from None
        if digest(document) != roster.commitments[site]:
            raise SignatureError(f"the commitment of {site} is not the one on the roster")
        found[site] = read_commitment(document, ticket, site, charter)
    return found
