"""Which encryption key serves from which round on: certificates of the key holder, chained.

`certificates/sealed/<key holder>/00001.json` below the keys is signed with the key that the charter names. A
rotation is the next certificate; the receipt of every round names the one it was opened under.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import KEY_HOLDER, Charter, raw_key
from components.agreement.document_form import well_formed
from components.artifacts.documents import digest, sign, verify
from components.artifacts.stores import Store, open_store
from components.errors import SignatureError, UsageError

DOMAIN = "key certificate"


@dataclass(frozen=True, kw_only=True)
class KeyCertificate:
    """One encryption key of a federation.

    Attributes:
        federation: its id.
        protection: that the key serves.
        number: from 1.
        context: SHA-256 of the public encryption context.
        first_round: from which it is used.
        previous: SHA-256 of the certificate before, empty in the first.
    """

    federation: str
    protection: str
    number: int
    context: str
    first_round: int
    previous: str

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the key holder publishes."""
        return sign(key, domain=DOMAIN, signer=KEY_HOLDER, body=asdict(self))


@dataclass(frozen=True, kw_only=True)
class CertifiedKey:
    """A certificate with the digest that receipts and manifests name it by."""

    certificate: KeyCertificate
    digest: str


def certificate_key(charter: Charter, protection: str, number: int) -> str:
    """Where a certificate lies, below the keys; another key holder starts a chain of its own."""
    return f"{_folder(charter, protection)}/{number:05d}.json"


def _folder(charter: Charter, protection: str) -> str:
    return f"certificates/{protection}/{digest(raw_key(charter.key_holder))[:16]}"


def context_key(protection: str, context: str) -> str:
    """Where the public context with this fingerprint lies, below the keys."""
    return f"contexts/{protection}-{context[:16]}.public"


def secret_name(protection: str, context: str) -> str:
    """Name of the file with the secret half of a context, in the key holder's folder."""
    return f"{protection}-{context[:16]}.secret"


def certified_keys(keys_uri: str, charter: Charter, protection: str) -> list[CertifiedKey]:
    """All keys of a protection in the order they serve; empty for one that needs none.

    Raises:
        SignatureError: a certificate is not the key holder's, or the chain is broken.
    """
    store = open_store(keys_uri)
    found: list[CertifiedKey] = []
    number = 0
    while store.exists(certificate_key(charter, protection, number := number + 1)):
        before = found[-1] if found else None
        found.append(_read(store, charter, protection, number, before))
    return found


def key_of_round(keys_uri: str, charter: Charter, round_number: int) -> CertifiedKey | None:
    """The key that serves a round; None where the charter's protection needs none.

    Raises:
        SignatureError: certificates were altered.
        UsageError: no key serves this round, or the one that does is due for rotation.
    """
    found = certified_keys(keys_uri, charter, charter.protection)
    if not found:
        if not charter.traits.keyed:
            return None
        raise UsageError(
            f"there is no key for protection {charter.protection}: the key holder makes it with "
            "'crosscloud keys init'"
        )
    serving = [each for each in found if each.certificate.first_round <= round_number]
    if not serving or round_number >= serving[-1].certificate.first_round + charter.rotation_rounds:
        raise UsageError(
            f"the key for protection {charter.protection} may serve {charter.rotation_rounds} rounds and "
            f"round {round_number} is not among them: 'crosscloud keys rotate' makes the next one"
        )
    return serving[-1]


def _read(
    store: Store, charter: Charter, protection: str, number: int, before: CertifiedKey | None
) -> CertifiedKey:
    document = store.read(certificate_key(charter, protection, number), limit=1 << 16)
    body = verify(document, domain=DOMAIN, signer=KEY_HOLDER, key=charter.key(KEY_HOLDER))
    try:
        found = well_formed(KeyCertificate(**body))
    except TypeError:
        raise SignatureError("a key certificate is not in the form this version knows") from None
    after = before.certificate.first_round if before else 0
    expected = (charter.federation, protection, number, before.digest if before else "")
    if (found.federation, found.protection, found.number, found.previous) != expected or not (
        type(found.first_round) is int and after < found.first_round
    ):
        raise SignatureError(
            f"certificate {number} for protection {protection} does not follow from the one before"
        )
    return CertifiedKey(certificate=found, digest=digest(document))
