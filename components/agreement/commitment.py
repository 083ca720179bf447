"""A site's commitment to the update it will seal, published before anybody's is known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.parties import Parties, framed
from components.agreement.ticket import Ticket
from components.artifacts.documents import sign, verify
from components.errors import SignatureError

DOMAIN = "commitment"
SALT_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Commitment:
    """`commitment` is SHA-256 over ticket, site, salt and the update: it binds and hides."""

    ticket: str
    site: str
    commitment: str

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the site publishes."""
        body = {"ticket": self.ticket, "site": self.site, "commitment": self.commitment}
        return sign(key, domain=DOMAIN, signer=self.site, body=body)


def commit(ticket: Ticket, site: str, salt: bytes, update: bytes) -> Commitment:
    """H(td, site, salt, update), every part with its length before it."""
    hashed = hashlib.sha256(framed([ticket.digest.encode(), site.encode(), salt, update])).hexdigest()
    return Commitment(ticket=ticket.digest, site=site, commitment=hashed)


def commitment_key(ticket: Ticket, site: str) -> str:
    """Where it lies in the exchange."""
    return f"{ticket.folder}/commitments/{site}.json"


def read_commitment(document: bytes, ticket: Ticket, site: str, parties: Parties) -> Commitment:
    """Verifies a site's commitment for this ticket.

    Raises:
        SignatureError: altered, another site's, or made for another ticket.
    """
    body = verify(document, domain=DOMAIN, signer=site, key=parties.key(site))
    try:
        found = Commitment(**body)
    except TypeError:
        raise SignatureError(f"the commitment of {site} is not in the form this version knows") from None
    if found.ticket != ticket.digest or found.site != site:
        raise SignatureError(f"the commitment of {site} was made for another ticket")
    return found
