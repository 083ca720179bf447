"""The end of an attempt that came to nothing, signed by the coordinator."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import COORDINATOR, Charter
from components.agreement.ticket import METRICS, Ticket
from components.artifacts.documents import digest, sign, verify
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectMissingError, RefusedError, SignatureError

DOMAIN = "void"


def void_key(folder: str) -> str:
    """Where the void of an attempt lies in the exchange."""
    return f"{folder}/void.json"


def void_document(ticket: str, round_number: int, reason: str, key: Ed25519PrivateKey) -> bytes:
    """The document the coordinator publishes: the attempt td ended without a sum."""
    body = {"ticket": ticket, "round_number": round_number, "reason": reason}
    return sign(key, domain=DOMAIN, signer=COORDINATOR, body=body)


def read_void(document: bytes, charter: Charter) -> tuple[str, int, str]:
    """td, round and reason of a void.

    Raises:
        SignatureError: it is not the coordinator's.
    """
    body = verify(document, domain=DOMAIN, signer=COORDINATOR, key=charter.key(COORDINATOR))
    try:
        return str(body["ticket"]), int(body["round_number"]), str(body["reason"])
    except (KeyError, TypeError, ValueError):
        raise SignatureError("a void is not in the form this version knows") from None


def is_void(exchange: Store, ticket: Ticket, charter: Charter, *editions: Charter) -> bool:
    """Tells whether the coordinator has declared an attempt void.

    Args:
        exchange: store that all parties read.
        ticket: of the attempt.
        charter: whose coordinator may have.
        editions: others whose coordinator may have, where its key was replaced meanwhile.

    Raises:
        IntegrityError: what lies there is not the coordinator's void of this attempt.
    """
    try:
        document = exchange.read(void_key(ticket.folder), limit=1 << 16)
    except ObjectMissingError:
        return False
    ended = ("", 0)
    for edition in (charter, *editions):
        with contextlib.suppress(SignatureError):
            ended = read_void(document, edition)[:2]
            break
    if ended != (ticket.digest, ticket.round_number):
        raise IntegrityError(
            f"the void in {ticket.folder} is not the coordinator's for this attempt: remove it and run again"
        )
    return True


def check_attempt(exchange: Store, ticket: Ticket, charter: Charter, earlier: Iterable[Charter] = ()) -> None:
    """Passes a first attempt, or one whose predecessor was voided.

    Args:
        exchange: store that all parties read.
        ticket: verified; it names the void by its digest.
        charter: of the ticket.
        earlier: editions that it follows from, whose coordinator may have ended the attempt before.

    Raises:
        RefusedError: the attempt before is not known to be void.
    """
    if (ticket.attempt == 1 or ticket.purpose == METRICS) and not ticket.void:
        # Metrics have one attempt, numbered as the update's that they follow from.
        return
    text = (
        f"attempt {ticket.attempt} of round {ticket.round_number} was opened without a void of the one before"
    )
    folder = f"rounds/{ticket.round_number:05d}-{ticket.attempt - 1}"
    try:
        document = exchange.read(void_key(folder), limit=1 << 16)
    except ObjectMissingError:
        raise RefusedError(text, disclosed=text) from None
    for edition in itertools.chain([charter], earlier):
        with contextlib.suppress(SignatureError):
            _, round_number, _ = read_void(document, edition)
            if digest(document) == ticket.void and round_number == ticket.round_number:
                return
    raise RefusedError(text, disclosed=text)
