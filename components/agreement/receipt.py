"""The key holder's receipt: which sum was opened, of whom, and what it was."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.parties import KEY_HOLDER, Parties
from components.agreement.ticket import Ticket
from components.artifacts.documents import digest, sign, verify
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, SignatureError

DOMAIN = "receipt"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One opened sum.

    Attributes:
        ticket: td.
        roster: rd.
        purpose: of the ticket.
        members: sites whose updates are in the sum, sorted.
        sealed_sum: SHA-256 of the sealed sum that was opened.
        aggregate: SHA-256 of the opened values.
        previous: SHA-256 of the receipt of the round before, as in the ticket.
    """

    ticket: str
    roster: str
    purpose: str
    members: tuple[str, ...]
    sealed_sum: str
    aggregate: str
    previous: str

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the key holder publishes."""
        body = asdict(self) | {"members": list(self.members)}
        return sign(key, domain=DOMAIN, signer=KEY_HOLDER, body=body)


def receipt_key(ticket: Ticket) -> str:
    """Where the receipt lies in the exchange."""
    return f"{ticket.folder}/receipt.json"


def aggregate_key(ticket: Ticket) -> str:
    """Where the opened values lie in the exchange."""
    return f"{ticket.folder}/aggregate.safetensors"


def read_receipt(document: bytes, ticket: Ticket, parties: Parties) -> Receipt:
    """Verifies the receipt of a ticket.

    Raises:
        SignatureError: altered, or given for another ticket or chain.
    """
    body = verify(document, domain=DOMAIN, signer=KEY_HOLDER, key=parties.key(KEY_HOLDER))
    try:
        receipt = Receipt(**(body | {"members": tuple(body["members"])}))
    except (TypeError, KeyError):
        raise SignatureError("a receipt is not in the form this version knows") from None
    if (receipt.ticket, receipt.purpose, receipt.previous) != (
        ticket.digest,
        ticket.purpose,
        ticket.previous,
    ):
        raise SignatureError(f"the receipt in {ticket.folder} was given for another ticket")
    return receipt


def read_aggregate(exchange: Store, ticket: Ticket, receipt: Receipt) -> bytes:
    """The opened values that a receipt vouches for.

    Raises:
        DigestMismatchError: what lies there is something else.
    """
    content = exchange.read(aggregate_key(ticket))
    if digest(content) != receipt.aggregate:
        raise DigestMismatchError(f"the aggregate in {ticket.folder} is not the one its receipt signs")
    return content
