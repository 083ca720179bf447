"""What a site's own people read of a step that came to nothing: the reason that was told, and the story.

    notes/20261128T195331.123456-ingest.json

Every request that the site refused is among them. A note may quote records: it lies in the site's own store
and nowhere else.
"""

from __future__ import annotations

import json
import re
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime

from components.artifacts.stores import Store, open_store
from components.errors import IntegrityError, StoreError, UsageError
from components.execution import progress

FOLDER = "notes"
_KEY = re.compile(r"notes/[0-9]{8}T[0-9]{6}\.[0-9]{6}-[a-z_]+\.json")


@dataclass(frozen=True, kw_only=True)
class Note:
    """Why a step came to nothing.

    Attributes:
        time: UTC, ISO 8601.
        step: its name.
        ticket: reference of the ticket as it was given, or what was asked in place of one.
        error: the error's class; empty where the step's process ended without one.
        reason: what the other parties were told; empty for nothing.
        message: in full.
    """

    time: str
    step: str
    ticket: str
    error: str
    reason: str
    message: str


def keep_note(
    store_uri: str,
    *,
    site: str,
    step: str,
    ticket: str,
    reason: str,
    error: BaseException | None = None,
    message: str = "",
) -> None:
    """Writes a note; a step is not failed by one that cannot be written, which is said in its log.

    Args:
        store_uri: the site's own store.
        site: its name.
        step: that came to nothing.
        ticket: reference of its ticket, as it was given.
        reason: that the others are told.
        error: why; None where there is none, and `message` says what there is to say.
        message: in place of the error's.
    """
    at = datetime.now(UTC)
    note = {
        "step": step,
        "at": at.isoformat(timespec="seconds"),
        "ticket": ticket,
        "reason": reason,
        "error": type(error).__name__ if error else "",
        "message": str(error) if error else message or reason,
        "trace": traceback.format_exception(error) if error else [],
    }
    try:
        store = open_store(store_uri)
        store.create(f"{FOLDER}/{at:%Y%m%dT%H%M%S.%f}-{step}.json", json.dumps(note, indent=1).encode())
    except (StoreError, UsageError) as failure:
        progress.tell(f"no note could be kept at {site} ({type(failure).__name__})")


def read_notes(store: Store) -> list[Note]:
    """All notes, in the order of time.

    Raises:
        IntegrityError: one was altered.
    """
    return [_read(store, key) for key in store.keys(FOLDER) if _KEY.fullmatch(key)]


def _read(store: Store, key: str) -> Note:
    try:
        told = json.loads(store.read(key))
        return Note(
            time=str(told["at"]),
            step=str(told["step"]),
            ticket=str(told["ticket"]),
            error=str(told["error"]),
            # Notes of earlier versions do not hold it; of what is passed over nobody was told.
            reason=str(told.get("reason", "")),
            message=str(told["message"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise IntegrityError(f"the site's note {key} was altered") from None
