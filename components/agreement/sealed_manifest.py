"""The signed manifest beside a sealed update: checked before a byte of the update is parsed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import Charter
from components.agreement.document_form import well_formed
from components.agreement.roster import Roster
from components.agreement.ticket import Ticket
from components.artifacts.documents import sign, verify
from components.artifacts.hashed_reader import HashedReader
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, ObjectTooLargeError, SignatureError

DOMAIN = "sealed update"
MAX_SEALED_BYTES = 16 * 2**30


@dataclass(frozen=True, kw_only=True)
class SealedManifest:
    """What a site says of the sealed update it uploaded.

    Attributes:
        charter: cd.
        ticket: td.
        roster: rd.
        purpose: of the ticket.
        site: who sealed it.
        protection: how.
        certificate: SHA-256 of the key certificate it was sealed under, empty where there is no key.
        blob: SHA-256 of the sealed bytes.
        size: their number.
        length: values sealed.
    """

    charter: str
    ticket: str
    roster: str
    purpose: str
    site: str
    protection: str
    certificate: str
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


def read_manifest(
    exchange: Store, ticket: Ticket, roster: Roster, site: str, *, charter: Charter, certificate: str
) -> SealedManifest:
    """The verified manifest of a site.

    Args:
        exchange: store that all parties read.
        ticket: of the attempt.
        roster: of the attempt.
        site: whose manifest.
        charter: with the site's key.
        certificate: SHA-256 of the key certificate of the round, empty where there is no key.

    Raises:
        SignatureError: the manifest is unsigned, altered, another site's, or made for another
            charter, ticket, roster, purpose, protection or key.
        ObjectMissingError: the site has uploaded nothing.
    """
    try:
        document = exchange.read(manifest_key(ticket, site), limit=1 << 16)
    except ObjectTooLargeError:
        raise SignatureError(f"the manifest of {site} is larger than any manifest") from None
    body = verify(document, domain=DOMAIN, signer=site, key=charter.key(site))
    try:
        manifest = well_formed(SealedManifest(**body))
    except TypeError:
        raise SignatureError(f"the manifest of {site} is not in the form this version knows") from None
    expected = {
        "charter": ticket.charter,
        "ticket": ticket.digest,
        "roster": roster.digest,
        "purpose": ticket.purpose,
        "site": site,
        "protection": charter.protection,
        "certificate": certificate,
    }
    for name, value in expected.items():
        if getattr(manifest, name) != value:
            raise SignatureError(f"the sealed update of {site} was made for another {name}")
    if type(manifest.size) is not int or not 0 < manifest.size <= MAX_SEALED_BYTES:
        raise SignatureError(f"the manifest of {site} states a size that no sealed update has")
    return manifest


class VouchedReader(HashedReader):
    """Sealed bytes compared with their manifest at their end.

    Adding words as they stream is no parsing: nothing computed from them may be used before
    `require_whole` has returned.
    """

    def __init__(self, source: BinaryIO, manifest: SealedManifest) -> None:
        """`source` must outlive it."""
        super().__init__(source)
        self._manifest = manifest

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; one byte beyond the stated size already is a mismatch."""
        content = super().read(size)
        if self.count > self._manifest.size:
            raise self._mismatch()
        return content

    def require_whole(self) -> None:
        """Returns once all bytes have passed and are those that the manifest signs.

        Raises:
            DigestMismatchError: they are not.
        """
        while self.read(1 << 20):
            pass
        if self.count != self._manifest.size or self.digest != self._manifest.blob:
            raise self._mismatch()

    def _mismatch(self) -> DigestMismatchError:
        return DigestMismatchError(
            f"the sealed update of {self._manifest.site} is not the one its manifest signs"
        )


@contextmanager
def open_blob(exchange: Store, ticket: Ticket, manifest: SealedManifest) -> Iterator[VouchedReader]:
    """The sealed bytes that a verified manifest vouches for; see `VouchedReader`.

    Raises:
        ObjectMissingError: they are not there.
    """
    with exchange.open(blob_key(ticket, manifest.site)) as source:
        yield VouchedReader(source, manifest)
