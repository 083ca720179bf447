"""The unmasking of a member of the sum: its part of what lifts all masks, under a lock of the quorum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import Charter
from components.agreement.cutoff import Cutoff
from components.agreement.document_form import well_formed
from components.agreement.sharers import Sharers
from components.agreement.ticket import Ticket
from components.artifacts.documents import sign, verify
from components.artifacts.stores import Store
from components.errors import ObjectTooLargeError, SignatureError

DOMAIN = "unmasking"
MAX_UNMASKING_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Unmasking:
    """What a member publishes after the cut-off.

    Attributes:
        charter: cd.
        ticket: td.
        roster: rd.
        sharers: sd.
        cutoff: ud.
        purpose: of the ticket.
        site: whose it is.
        tokens: what this site gives to open each other member's lock, base64, by member.
        lock_shares: a share of this site's lock by other member, base64, closed by that member's token.
        own_share: this site's own share of its lock, base64.
        locked: one key for every sharer, base64, under the lock.
    """

    charter: str
    ticket: str
    roster: str
    sharers: str
    cutoff: str
    purpose: str
    site: str
    tokens: Mapping[str, str]
    lock_shares: Mapping[str, str]
    own_share: str
    locked: str

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the site publishes."""
        return sign(key, domain=DOMAIN, signer=self.site, body=asdict(self))


def unmasking_key(ticket: Ticket, site: str) -> str:
    """Where it lies in the exchange."""
    return f"{ticket.folder}/unmasked/{site}.json"


def read_unmasking(
    exchange: Store, ticket: Ticket, sharers: Sharers, cutoff: Cutoff, site: str, *, charter: Charter
) -> Unmasking:
    """Verifies a member's unmasking.

    Raises:
        SignatureError: altered, another site's, or made for another ticket, roster, sharers, set or purpose.
        ObjectMissingError: the site has not unmasked.
    """
    try:
        document = exchange.read(unmasking_key(ticket, site), limit=MAX_UNMASKING_BYTES)
    except ObjectTooLargeError:
        raise SignatureError(f"the unmasking of {site} is larger than any unmasking") from None
    body = verify(document, domain=DOMAIN, signer=site, key=charter.key(site))
    try:
        found = well_formed(Unmasking(**body))
    except TypeError:
        raise SignatureError(f"the unmasking of {site} is not in the form this version knows") from None
    expected = {
        "charter": ticket.charter,
        "ticket": ticket.digest,
        "roster": cutoff.roster,
        "sharers": sharers.digest,
        "cutoff": cutoff.digest,
        "purpose": ticket.purpose,
        "site": site,
    }
    for name, value in expected.items():
        if getattr(found, name) != value:
            raise SignatureError(f"the unmasking of {site} was made for another {name}")
    return found
