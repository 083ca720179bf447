"""The signed manifest beside a sealed update: checked before a byte of the update is parsed."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.parties import Parties
from components.agreement.roster import Roster
from components.agreement.ticket import Ticket
from components.artifacts.documents import digest, sign, verify
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, ObjectTooLargeError, SignatureError

DOMAIN = "sealed update"
MAX_SEALED_BYTES = 16 * 2**30


@dataclass(frozen=True, kw_only=True)
class SealedManifest:
    """What a site says of the sealed update it uploaded.

    Attributes:
        ticket: td.
        roster: rd.
        purpose: of the ticket.
        site: who sealed it.
        protection: how.
        context: fingerprint of the public context it was sealed under.
        blob: SHA-256 of the sealed bytes.
        size: their number.
        length: values sealed, d + 1.
    """

    ticket: str
    roster: str
    purpose: str
    site: str
    protection: str
    context: str
    blob: str
    size: int
    length: int

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the site publishes."""
        return sign(key, domain=DOMAIN, signer=self.site, body=asdict(self))


def manifest_key(ticket: Ticket, site: str) -> str:
    """Where the manifest lies in the exchange."""
    return f"{ticket.folder}/sealed/{site}.json"


def blob_key(ticket: Ticket, site: str) -> str:
    """Where the sealed update lies in the exchange."""
    return f"{ticket.folder}/sealed/{site}.bin"


def read_sealed(
    exchange: Store, ticket: Ticket, roster: Roster, site: str, parties: Parties
) -> tuple[SealedManifest, bytes]:
    """The verified manifest of a site and the sealed bytes it vouches for.

    Nothing of the sealed bytes has been parsed when this returns.

    Raises:
        SignatureError: the manifest is unsigned, altered, another site's, or made for another
            ticket, roster, purpose or protection.
        DigestMismatchError: the sealed bytes are not those the manifest names.
        ObjectMissingError: the site has uploaded nothing.
    """
    try:
        document = exchange.read(manifest_key(ticket, site), limit=1 << 16)
    except ObjectTooLargeError:
        raise SignatureError(f"the manifest of {site} is larger than any manifest") from None
    body = verify(document, domain=DOMAIN, signer=site, key=parties.key(site))
    try:
        manifest = SealedManifest(**body)
    except TypeError:
        raise SignatureError(f"the manifest of {site} is not in the form this version knows") from None
    expected = {
        "ticket": ticket.digest,
        "roster": roster.digest,
        "purpose": ticket.purpose,
        "site": site,
        "protection": ticket.protection,
        "context": parties.contexts.get(ticket.protection, ""),
    }
    for name, value in expected.items():
        if getattr(manifest, name) != value:
            raise SignatureError(f"the sealed update of {site} was made for another {name}")
    if type(manifest.size) is not int or not 0 < manifest.size <= MAX_SEALED_BYTES:
        raise SignatureError(f"the manifest of {site} states a size that no sealed update has")
    try:
        blob = exchange.read(blob_key(ticket, site), limit=manifest.size)
    except ObjectTooLargeError:
        blob = b""
    if len(blob) != manifest.size or digest(blob) != manifest.blob:
        raise DigestMismatchError(f"the sealed update of {site} is not the one its manifest signs")
    return manifest, blob
