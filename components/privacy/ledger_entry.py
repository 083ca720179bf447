"""One entry of a privacy ledger, as it lies in the site's store.

{"body": {charge, event, index, previous, rho, time}, "digest": SHA-256 of the body's canonical JSON}, in
canonical form itself: a changed byte is found when the entry is read.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from components.artifacts.documents import canonical_json, digest
from components.errors import IntegrityError
from components.privacy.events import Event, event_document, read_event

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Charge:
    """For what the budget is charged.

    Attributes:
        federation: its id.
        charter: cd.
        ticket: td; a ticket is charged once.
        round_number: from 1.
        attempt: from 1.
        purpose: what is sealed under the ticket.
    """

    federation: str
    charter: str
    ticket: str
    round_number: int
    attempt: int
    purpose: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One release that was paid for.

    Attributes:
        index: from 1.
        previous: digest of the entry before; of the first, the head of the empty ledger.
        charge: for what.
        event: what is released.
        rho: its price when it was charged, for people: costs are always computed from the events.
        time: of the charge, UTC, never before that of the entry before.
    """

    index: int
    previous: str
    charge: Charge
    event: Event
    rho: float
    time: datetime

    @property
    def digest(self) -> str:
        """What the next entry and the ledger's head refer to."""
        return digest(canonical_json(self._body()))

    def to_json(self) -> bytes:
        """The object in the store."""
        return canonical_json({"body": self._body(), "digest": self.digest})

    def _body(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "previous": self.previous,
            "charge": asdict(self.charge),
            "event": event_document(self.event),
            "rho": self.rho,
            "time": self.time.astimezone(UTC).isoformat(),
        }


def read_entry(content: bytes, *, index: int, previous: str) -> Entry:
    """Reads the entry that must be number `index` after the entry with digest `previous`.

    Raises:
        IntegrityError: it is another, was altered, or is in a form this version does not know.
    """
    try:
        body = json.loads(content)["body"]
        entry = Entry(
            index=body["index"],
            previous=body["previous"],
            charge=_charge(body["charge"]),
            event=read_event(body["event"]),
            rho=body["rho"],
            time=datetime.fromisoformat(body["time"]),
        )
        # What was read and is not written alike was altered, an unknown field included.
        intact = (
            entry.time.tzinfo is not None and type(entry.rho) in (int, float) and entry.to_json() == content
        )
    except (ValueError, KeyError, TypeError, RecursionError, IntegrityError):
        intact = False
    if not intact:
        raise IntegrityError(f"entry {index} of the privacy ledger was altered: restore the site's store")
    if (entry.index, entry.previous) != (index, previous):
        raise IntegrityError(
            f"entry {index} of the privacy ledger does not follow the one before: restore the site's store"
        )
    return entry


def _charge(document: Any) -> Charge:
    charge = Charge(**document)
    for field in fields(Charge):
        if type(getattr(charge, field.name)) is not {"str": str, "int": int}[str(field.type)]:
            raise TypeError(f"{field.name} is of another type")
    if not _DIGEST.fullmatch(charge.ticket) or min(charge.round_number, charge.attempt) < 1:
        raise ValueError("no such ticket, round or attempt")
    return charge
