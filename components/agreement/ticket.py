"""The ticket: what the coordinator asks of every site in one attempt of one round."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.parties import COORDINATOR, Parties
from components.artifacts.documents import canonical_json, digest, sign, verify
from components.errors import SignatureError

DOMAIN = "ticket"


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """One attempt of one round.

    Attributes:
        federation: id of the federation.
        round_number: from 1.
        attempt: from 1; a new one exists only after the one before was voided.
        purpose: what is sealed under it (`update`).
        protection: how updates are sealed (`none`, `he`).
        sites: names of all sites, sorted.
        model: SHA-256 of the global model the round starts from.
        previous: SHA-256 of the receipt of the round before, empty in the first.
        snapshot: UTC time at which the data are read, ISO 8601.
        local_epochs: passes over the site's training rows, 1 or more.
        learning_rate: of the local steps, above 0.
        batch_size: rows a step, 1 or more.
        seed: of everything random that protects nothing (order of rows).
        format: version of this form.
    """

    federation: str
    round_number: int
    attempt: int
    purpose: str
    protection: str
    sites: tuple[str, ...]
    model: str
    previous: str
    snapshot: str
    local_epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    format: int = 1

    @property
    def digest(self) -> str:
        """td, the name of this attempt in every later document."""
        return digest(canonical_json(self._body()))

    @property
    def folder(self) -> str:
        """Where the attempt's objects lie in the exchange."""
        return f"rounds/{self.round_number:05d}-{self.attempt}"

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the coordinator publishes."""
        return sign(key, domain=DOMAIN, signer=COORDINATOR, body=self._body())

    def _body(self) -> dict[str, Any]:
        return asdict(self) | {"sites": list(self.sites)}


def read_ticket(document: bytes, parties: Parties) -> Ticket:
    """Verifies and reads a ticket.

    Raises:
        SignatureError: it is not the coordinator's, not this federation's, or not in this form.
    """
    body = verify(document, domain=DOMAIN, signer=COORDINATOR, key=parties.key(COORDINATOR))
    try:
        ticket = Ticket(**(body | {"sites": tuple(body["sites"])}))
    except (TypeError, KeyError):
        raise SignatureError("a ticket is not in the form this version knows") from None
    if ticket.format != 1:
        raise SignatureError(f"a ticket has format {ticket.format}, this version knows 1")
    if ticket.federation != parties.federation:
        raise SignatureError(f"a ticket of {ticket.federation} was given to a party of {parties.federation}")
    return ticket
