"""The release of a member of the sum: what lifts its self-mask, under a lock that needs all members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import Charter
from components.agreement.cutoff import Cutoff
from components.agreement.document_form import well_formed
from components.agreement.ticket import Ticket
from components.artifacts.documents import sign, verify
from components.artifacts.stores import Store
from components.errors import ObjectTooLargeError, SignatureError

DOMAIN = "release"
MAX_RELEASE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ReleasedMasks:
    """What a member publishes after the cut-off.

    Attributes:
        charter: cd.
        ticket: td.
        roster: rd.
        cutoff: ud.
        purpose: of the ticket.
        site: whose release it is.
        shares: this site's share of every other member's lock, base64, by member.
        locked: its self-mask key and the pair keys of lost sites, base64, under its own lock.
    """

    charter: str
    ticket: str
    roster: str
    cutoff: str
    purpose: str
    site: str
    shares: Mapping[str, str]
    locked: str

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the site publishes."""
        return sign(key, domain=DOMAIN, signer=self.site, body=asdict(self))


def release_key(ticket: Ticket, site: str) -> str:
    """Where it lies in the exchange."""
    return f"{ticket.folder}/released/{site}.json"


def read_release(
    exchange: Store, ticket: Ticket, cutoff: Cutoff, site: str, charter: Charter
) -> ReleasedMasks:
    """Verifies a member's release.

    Raises:
        SignatureError: altered, another site's, or made for another ticket, roster, set or purpose.
        ObjectMissingError: the site has released nothing.
    """
    try:
        document = exchange.read(release_key(ticket, site), limit=MAX_RELEASE_BYTES)
    except ObjectTooLargeError:
        raise SignatureError(f"the release of {site} is larger than any release") from None
    body = verify(document, domain=DOMAIN, signer=site, key=charter.key(site))
    try:
        found = well_formed(ReleasedMasks(**body))
    except TypeError:
        raise SignatureError(f"the release of {site} is not in the form this version knows") from None
    expected = {
        "charter": ticket.charter,
        "ticket": ticket.digest,
        "roster": cutoff.roster,
        "cutoff": cutoff.digest,
        "purpose": ticket.purpose,
        "site": site,
    }
    for name, value in expected.items():
        if getattr(found, name) != value:
            raise SignatureError(f"the release of {site} was made for another {name}")
    return found
