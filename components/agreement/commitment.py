"""A site's commitment to what it will seal, published before anybody's is known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from components.agreement.charter import Charter, raw_key
from components.agreement.document_form import well_formed
from components.agreement.ledger_head import read_ledger_head
from components.agreement.ticket import Ticket
from components.artifacts.background_hash import piece_digests
from components.artifacts.documents import framed, sign, verify
from components.errors import IntegrityError, SignatureError

DOMAIN = "commitment"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Commitment:
    """What a site is bound to.

    Attributes:
        charter: cd.
        ticket: td.
        site: whose it is.
        ephemeral: X25519 public key of this attempt, base64; empty where nothing is masked.
        commitment: SHA-256 over cd, td, site, salt and the vector: it binds and hides.
        ledger: head of the site's privacy ledger, which holds this ticket's charge (`LedgerHead`); None where
            nothing is charged.
        sharing: another X25519 public key of this attempt, base64, to which others send shares of their
            secrets; empty where no sum is lifted by `unmask`.
    """

    charter: str
    ticket: str
    site: str
    ephemeral: str
    commitment: str
    ledger: Mapping[str, Any] | None = None
    sharing: str = ""

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the site publishes."""
        return sign(key, domain=DOMAIN, signer=self.site, body=asdict(self))


def committed_digest(ticket: Ticket, site: str, salt: bytes, vector: NDArray[np.generic]) -> str:
    """H(cd, td, site, salt, type, length, H(x_1), H(x_2), …), every part with its length before it.

    The vector's bytes are hashed in pieces of 2^20, the last one shorter, and the pieces' digests under the
    salt: it binds to the vector as one hash of it would, and pieces of a long one are hashed side by side.

    Args:
        ticket: names cd and td.
        site: whose vector it is.
        salt: 32 bytes.
        vector: what will be sealed, shape (length,), hashed as little-endian bytes.
    """
    little = vector.dtype.newbyteorder("<")
    parts = [ticket.charter.encode(), ticket.digest.encode(), site.encode(), salt, little.str.encode()]
    hashed = hashlib.sha256(framed(parts))
    hashed.update((vector.size * little.itemsize).to_bytes(8, "big"))
    values = _PIECE_BYTES // little.itemsize
    pieces = (
        np.ascontiguousarray(vector[start : start + values].astype(little, copy=False)).data
        for start in range(0, vector.size, values)
    )
    for each in piece_digests(pieces):
        hashed.update(each)
    return hashed.hexdigest()


def commitment_key(ticket: Ticket, site: str) -> str:
    """Where it lies in the exchange."""
    return f"{ticket.folder}/commitments/{site}.json"


def read_commitment(document: bytes, ticket: Ticket, site: str, charter: Charter) -> Commitment:
    """Verifies a site's commitment for this ticket.

    Raises:
        SignatureError: altered, another site's, or made for another ticket or charter.
    """
    body = verify(document, domain=DOMAIN, signer=site, key=charter.key(site))
    try:
        found = well_formed(Commitment(**body))
    except TypeError:
        raise SignatureError(f"the commitment of {site} is not in the form this version knows") from None
    if (found.charter, found.ticket, found.site) != (ticket.charter, ticket.digest, site):
        raise SignatureError(f"the commitment of {site} was made for another ticket")
    for key in filter(None, (found.ephemeral, found.sharing)):
        raw_key(key)
    try:
        if found.ledger is not None:
            read_ledger_head(found.ledger)
    except IntegrityError:
        raise SignatureError(f"the commitment of {site} is not in the form this version knows") from None
    return found
