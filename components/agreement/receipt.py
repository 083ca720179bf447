"""The key holder's receipt: which sum was opened, of whom, and what it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from components.agreement.charter import KEY_HOLDER, Charter
from components.agreement.document_form import well_formed
from components.agreement.ticket import Ticket
from components.artifacts import tensors
from components.artifacts.background_hash import BackgroundHash
from components.artifacts.documents import digest, sign, verify
from components.artifacts.hashed_reader import HashedReader
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, IntegrityError, ObjectExistsError, SignatureError

DOMAIN = "receipt"
MAX_RECEIPT_BYTES = 1 << 20
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One opened sum.

    Attributes:
        charter: cd.
        ticket: td.
        roster: rd.
        cutoff: ud.
        purpose: of the ticket.
        certificate: SHA-256 of the key certificate it was opened under, empty where there is no key.
        ciphertexts: SHA-256 of the sealed update by site in the sum.
        sealed_sum: SHA-256 of the sealed sum that was opened.
        aggregate: SHA-256 of the opened values.
        previous: SHA-256 of the receipt before, as in the ticket.
    """

    charter: str
    ticket: str
    roster: str
    cutoff: str
    purpose: str
    certificate: str
    ciphertexts: Mapping[str, str]
    sealed_sum: str
    aggregate: str
    previous: str

    @property
    def members(self) -> tuple[str, ...]:
        """Sites whose updates are in the sum, sorted."""
        return tuple(sorted(self.ciphertexts))

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the key holder publishes."""
        return sign(key, domain=DOMAIN, signer=KEY_HOLDER, body=asdict(self))


def receipt_key(folder: str) -> str:
    """Where the receipt of an attempt lies in the exchange."""
    return f"{folder}/receipt.json"


def aggregate_key(folder: str) -> str:
    """Where the opened values of an attempt lie in the exchange."""
    return f"{folder}/aggregate.safetensors"


def read_receipt(document: bytes, ticket: Ticket, charter: Charter) -> Receipt:
    """Verifies the receipt of a ticket.

    Raises:
        SignatureError: altered, or given for another ticket or chain.
    """
    body = verify(document, domain=DOMAIN, signer=KEY_HOLDER, key=charter.key(KEY_HOLDER))
    try:
        receipt = well_formed(Receipt(**body))
    except TypeError:
        raise SignatureError("a receipt is not in the form this version knows") from None
    strangers = set(receipt.ciphertexts) - set(charter.sites)
    if strangers or (receipt.charter, receipt.ticket, receipt.purpose, receipt.previous) != (
        ticket.charter,
        ticket.digest,
        ticket.purpose,
        ticket.previous,
    ):
        raise SignatureError(f"the receipt in {ticket.folder} was given for another ticket")
    return receipt


def publish_aggregate(exchange: Store, folder: str, values: NDArray[np.float64]) -> str:
    """Puts opened values where a receipt will vouch for them, a part at a time, and returns their SHA-256.

    Args:
        exchange: store that all parties read.
        folder: of the attempt.
        values: [Σ n·Δw, Σ n], shape (d + 1,).

    Raises:
        DigestMismatchError: other values lie there.
    """
    hashed = BackgroundHash()

    def passing() -> Iterator[bytes]:
        for part in tensors.vector_chunks("aggregate", values):
            hashed.update(part)
            yield part

    try:
        exchange.create_from(aggregate_key(folder), passing())
        return hashed.hexdigest()
    except ObjectExistsError:
        expected = BackgroundHash()
        for part in tensors.vector_chunks("aggregate", values):
            expected.update(part)
    if _digest_there(exchange, folder) != expected.hexdigest():
        raise DigestMismatchError("other values lie in the exchange where the opened sum belongs")
    return expected.hexdigest()


def require_aggregate(exchange: Store, folder: str, receipt: Receipt) -> None:
    """Passes opened values that a receipt vouches for; they are streamed and not kept.

    Raises:
        DigestMismatchError: what lies there is something else.
    """
    if _digest_there(exchange, folder) != receipt.aggregate:
        raise _another(folder)


def read_aggregate(exchange: Store, folder: str, receipt: Receipt) -> bytes:
    """The opened values that a receipt vouches for.

    Raises:
        DigestMismatchError: what lies there is something else.
    """
    content = exchange.read(aggregate_key(folder))
    if digest(content) != receipt.aggregate:
        raise _another(folder)
    return content


def opened_sum(content: bytes) -> NDArray[np.float64]:
    """[Σ n·Δw, Σ n], shape (d + 1,), from the bytes that a receipt vouches for.

    Raises:
        IntegrityError: they hold anything else than one vector of floating-point numbers.
    """
    values = tensors.decode_any(content).get("aggregate")
    if values is None or values.ndim != 1 or values.size < 1 or values.dtype.kind != "f":
        raise IntegrityError("the aggregate is not one vector of floating-point numbers")
    return values.astype(np.float64)


def _digest_there(exchange: Store, folder: str) -> str:
    with exchange.open(aggregate_key(folder)) as source:
        reader = HashedReader(source)
        while reader.read(_BLOCK):
            pass
    return reader.digest


def _another(folder: str) -> DigestMismatchError:
    return DigestMismatchError(f"the aggregate in {folder} is not the one its receipt signs")
