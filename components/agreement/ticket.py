"""The ticket: what the coordinator asks of every site in one attempt of one round."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import COORDINATOR, Charter
from components.artifacts.documents import canonical_json, digest, sign, verify
from components.errors import RefusedError, SignatureError

DOMAIN = "ticket"
UPDATE = "update"
METRICS = "metrics"
"""Purpose of the second exchange of a round: sealed confusion counts of the model it has committed."""
PURPOSES = (UPDATE, METRICS)
_FOLDERS = {UPDATE: "rounds", METRICS: "metrics"}
FORMAT = 2
_WHOLE = ("round_number", "attempt", "local_epochs", "batch_size", "seed", "format")
_TEXT = ("charter", "federation", "void", "purpose", "model", "previous", "previous_folder", "snapshot")


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """One attempt of one round. Sites, protection and quorum are the charter's.

    A ticket for metrics belongs to the attempt whose receipt it follows from: it has the same numbers and
    snapshot, its model is the one that receipt gives, and there is one of it and no void.

    Attributes:
        charter: cd.
        federation: id of the federation, for people.
        round_number: from 1.
        attempt: from 1; a new one exists only after the one before was voided.
        void: SHA-256 of the void of the attempt before, empty in the first.
        purpose: what is sealed under it (`update` or `metrics`).
        model: SHA-256 of the global model the round starts from.
        previous: SHA-256 of the last receipt of an update, empty before the first.
        previous_folder: where that receipt lies in the exchange, empty before the first.
        snapshot: UTC time at which the data are read, ISO 8601.
        local_epochs: passes over the site's training rows, 1 or more.
        learning_rate: of the local steps, above 0.
        batch_size: rows a step, 1 or more.
        seed: of everything random that protects nothing (order of rows).
        format: version of this form.
    """

    charter: str
    federation: str
    round_number: int
    attempt: int
    void: str
    purpose: str
    model: str
    previous: str
    previous_folder: str
    snapshot: str
    local_epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    format: int = FORMAT

    @cached_property
    def digest(self) -> str:
        """td, the name of this attempt in every later document."""
        return digest(canonical_json(asdict(self)))

    @property
    def folder(self) -> str:
        """Where the attempt's objects lie in the exchange."""
        return f"{_FOLDERS[self.purpose]}/{self.round_number:05d}-{self.attempt}"

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document the coordinator publishes."""
        return sign(key, domain=DOMAIN, signer=COORDINATOR, body=asdict(self))


def metrics_folder(folder: str) -> str:
    """Where the metrics of the attempt lie whose update's objects lie in `folder`."""
    return f"{_FOLDERS[METRICS]}/{folder.removeprefix(_FOLDERS[UPDATE] + '/')}"


def read_ticket(document: bytes, charter: Charter) -> Ticket:
    """Verifies and reads a ticket of a charter.

    Raises:
        SignatureError: it is not the coordinator's, not of this charter, or not in this form.
    """
    body = verify(document, domain=DOMAIN, signer=COORDINATOR, key=charter.key(COORDINATOR))
    try:
        ticket = Ticket(**body)
    except TypeError:
        raise SignatureError("a ticket is not in the form this version knows") from None
    problem = _form_problem(ticket)
    if problem:
        raise SignatureError(f"a ticket is not in the form this version knows: {problem}")
    if ticket.federation != charter.federation:
        raise SignatureError(f"a ticket of {ticket.federation} was given to a party of {charter.federation}")
    if ticket.charter != charter.digest:
        raise SignatureError(
            f"a ticket names charter {ticket.charter[:12]}, this party's is {charter.digest[:12]}"
        )
    return ticket


def charter_named(document: bytes) -> str:
    """The cd that an unverified ticket names: only for finding the charter to verify it with.

    Raises:
        SignatureError: it names none.
    """
    try:
        named = json.loads(document)["body"]["charter"]
    except (ValueError, KeyError, TypeError, RecursionError):
        named = None
    if not isinstance(named, str):
        raise SignatureError("a ticket is not in the form this version knows")
    return named


def ticket_digest(document: bytes) -> str:
    """The td of a ticket whose signature was, or will be, verified elsewhere.

    Raises:
        SignatureError: it is not a signed document.
    """
    try:
        return digest(canonical_json(json.loads(document)["body"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SignatureError("a ticket is not in the form this version knows") from None


def check_terms(ticket: Ticket, charter: Charter) -> None:
    """Passes a ticket that asks for nothing beyond the charter's bounds.

    Raises:
        RefusedError: a run parameter is beyond its bound, or the rounds are used up.
    """
    bounds = {
        "local_epochs": charter.local_epochs,
        "learning_rate": charter.learning_rate,
        "batch_size": charter.batch_size,
        "round_number": charter.max_rounds,
    }
    for name, most in bounds.items():
        value = getattr(ticket, name)
        if not 0 < value <= most:
            text = f"the charter allows {name} of at most {most:g}, the ticket asks for {value:g}"
            raise RefusedError(text, disclosed=text)
    if ticket.purpose == METRICS and not releases_metrics(charter, ticket.round_number):
        text = f"the charter releases no metrics of round {ticket.round_number}, the ticket asks for them"
        raise RefusedError(text, disclosed=text)


def releases_metrics(charter: Charter, round_number: int) -> bool:
    """Whether a round may have a sealed sum of confusion counts.

    Only a protection that hides single sites can: without noise in every round, under a schedule of noise in
    the rounds for which it sets noise aside.
    """
    if not charter.traits.masked:
        return False
    return charter.privacy is None or charter.privacy.metrics_in(round_number)


def _form_problem(ticket: Ticket) -> str:
    """What no ticket of this version says; empty for one that may be read further."""
    kinds = {int: _WHOLE, str: _TEXT}
    mistyped = [
        name for kind, names in kinds.items() for name in names if type(getattr(ticket, name)) is not kind
    ]
    if mistyped or type(ticket.learning_rate) not in (int, float):
        return f"{(mistyped or ['learning_rate'])[0]} is of another type"
    rules = {
        f"format {ticket.format}, this version knows {FORMAT}": ticket.format == FORMAT,
        "no such round, attempt or purpose": min(ticket.round_number, ticket.attempt) >= 1
        and ticket.purpose in PURPOSES,
        "model is not a digest": re.fullmatch(r"[0-9a-f]{64}", ticket.model),
        "previous_folder is not a folder of the exchange": re.fullmatch(
            r"(rounds/[0-9]{5,9}-[0-9]{1,6})?", ticket.previous_folder
        ),
        "previous and previous_folder belong together": bool(ticket.previous) == bool(ticket.previous_folder),
        "metrics belong to the attempt whose receipt they follow from": ticket.purpose != METRICS
        or (not ticket.void and metrics_folder(ticket.previous_folder) == ticket.folder),
    }
    return next((problem for problem, kept in rules.items() if not kept), "")
