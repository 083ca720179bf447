"""The shares a site deals of what masks it: for every site of the roster two, which only it can read."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import Charter
from components.agreement.document_form import well_formed
from components.agreement.roster import Roster
from components.agreement.ticket import Ticket
from components.artifacts.documents import sign, verify
from components.artifacts.stores import Store
from components.errors import ObjectTooLargeError, SignatureError

DOMAIN = "shares"
MAX_SHARES_BYTES = 1 << 20
SEALED_SHARE_BYTES = 61
"""12 of a nonce, 33 of a share, 16 of a tag."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class DealtShares:
    """What a site publishes before anybody seals.

    Attributes:
        charter: cd.
        ticket: td.
        roster: rd.
        purpose: of the ticket.
        site: the dealer.
        self_digest: binds the dealer to the key of its self-mask without telling it, in hexadecimal.
        selves: a share of that key by site of the roster, encrypted to it, base64.
        scalars: a share of the dealer's ephemeral private key by site of the roster, in the same way.
    """

    charter: str
    ticket: str
    roster: str
    purpose: str
    site: str
    self_digest: str
    selves: Mapping[str, str]
    scalars: Mapping[str, str]

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the site publishes."""
        return sign(key, domain=DOMAIN, signer=self.site, body=asdict(self))


def shares_key(ticket: Ticket, site: str) -> str:
    """Where they lie in the exchange."""
    return f"{ticket.folder}/shares/{site}.json"


def read_shares_document(exchange: Store, ticket: Ticket, site: str) -> bytes:
    """The bytes of a site's document, not verified.

    Raises:
        SignatureError: larger than any.
        ObjectMissingError: the site has dealt nothing.
    """
    try:
        return exchange.read(shares_key(ticket, site), limit=MAX_SHARES_BYTES)
    except ObjectTooLargeError:
        raise SignatureError(f"the shares of {site} are larger than any shares") from None


def verified_shares(
    document: bytes, ticket: Ticket, roster: Roster, site: str, charter: Charter
) -> DealtShares:
    """Verifies a site's document and its form; whether the shares are right shows when they are opened.

    Raises:
        SignatureError: altered, another site's, made for another ticket, roster or purpose, or not one share
            of each kind for every site of the roster.
    """
    body = verify(document, domain=DOMAIN, signer=site, key=charter.key(site))
    try:
        found = well_formed(DealtShares(**body))
    except TypeError:
        raise SignatureError(f"the shares of {site} are not in the form this version knows") from None
    expected = {
        "charter": ticket.charter,
        "ticket": ticket.digest,
        "roster": roster.digest,
        "purpose": ticket.purpose,
        "site": site,
    }
    for name, value in expected.items():
        if getattr(found, name) != value:
            raise SignatureError(f"the shares of {site} were dealt for another {name}")
    whole = all(
        set(dealt) == set(roster.sites) and all(map(_is_sealed_share, dealt.values()))
        for dealt in (found.selves, found.scalars)
    )
    if not whole or not _DIGEST.fullmatch(found.self_digest):
        raise SignatureError(f"the shares of {site} are not two for every site of the roster")
    return found


def _is_sealed_share(text: str) -> bool:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(raw) == SEALED_SHARE_BYTES and base64.b64encode(raw).decode() == text
