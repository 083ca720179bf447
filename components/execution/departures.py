"""What leaves a site, written down in the site's own store before it goes.

    left/000000003-000001-<td>/rounds=00003-1=sealed=alpha.bin.begun.json      is about to be created
    left/000000003-000001-<td>/rounds=00003-1=sealed=alpha.bin-<sha>.sent.json is in the exchange since
    left/000000003-000001-<td>/rounds=00003-1=sealed=alpha.bin-<sha>.met.json  something lay there already
    left/000000003-000001-<td>/outcome-train-<sha>.json                        what a step tells its asker

Records hold digests and sizes, never contents. They are created once: what is sent again, in a round that is
resumed, is one departure. Where a step was killed in between, `begun` alone says that it may have left.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from components.artifacts.documents import canonical_json, digest
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectExistsError
from components.execution.outcome import Outcome
from components.execution.ticket_reference import round_and_attempt

FOLDER: Final = "left"
UNTOLD: Final = "untold"
"""In place of td where no ticket could be verified."""
MAX_RECORD_BYTES = 1 << 16
State = Literal["sent", "met", "begun", "told"]
_STATES: Final[Mapping[str, State]] = {"sent": "sent", "met": "met", "begun": "begun", "told": "told"}


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """On what occasion something leaves a site.

    Attributes:
        step: the site's step; empty where none is named.
        reference: of the ticket, as it was given.
        round_number: of the ticket, 0 where it is not known.
        attempt: of the ticket, 0 where it is not known.
        ticket: td of a verified ticket; empty where there is none.
        protection: under which updates leave; empty where it is not known.
        least_sites: fewest sites in a sum that is opened, 0 where that is not known.
    """

    step: str
    reference: str
    round_number: int = 0
    attempt: int = 0
    ticket: str = ""
    protection: str = ""
    least_sites: int = 0

    @classmethod
    def referred(cls, step: str, reference: str, *, ticket: str = "") -> Occasion:
        """Round and attempt as the ticket's reference names them, for want of the ticket itself."""
        number, attempt = round_and_attempt(reference)
        return cls(step=step, reference=reference, round_number=number, attempt=attempt, ticket=ticket)

    @property
    def folder(self) -> str:
        """Where its records lie in the site's store."""
        return f"{FOLDER}/{self.round_number:09d}-{self.attempt:06d}-{self.ticket or UNTOLD}"


@dataclass(frozen=True, kw_only=True)
class Departure:
    """Something that has left a site, or may have.

    Attributes:
        time: UTC, ISO 8601, before it left.
        occasion: its step and ticket.
        key: in the exchange; empty for what a step tells.
        state: `sent`; `met`, if something lay there already; `begun`, if the step ended in between; `told`.
        size: bytes; None where nobody came to count them.
        sha256: of the bytes, empty likewise.
        told: reference that a step tells.
        reason: why it tells that it came to nothing.
        fields: names of the figures that go with either.
    """

    time: str
    occasion: Occasion
    key: str
    state: State
    size: int | None
    sha256: str
    told: str = ""
    reason: str = ""
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Departures:
    """Writes down what leaves on one occasion.

    Every method raises `StoreError` where the site's store takes no record; then nothing may leave.
    """

    store: Store
    occasion: Occasion
    now: Callable[[], datetime] = _now

    def begin(self, key: str, *, size: int | None = None, sha256: str = "") -> None:
        """Before an object of the exchange is created; what it holds may not be known yet."""
        name = f"{_flat(key)}-{sha256[:16]}" if sha256 else _flat(key)
        self._keep(f"{name}.begun", {"key": key, "size": size, "sha256": sha256})

    def end(self, key: str, *, size: int, sha256: str, arrived: bool) -> None:
        """After it was created, or was found to be there already."""
        state = "sent" if arrived else "met"
        self._keep(
            f"{_flat(key)}-{sha256[:16]}.{state}",
            {"key": key, "size": size, "sha256": sha256, "state": state},
        )

    def is_settled(self, key: str, sha256: str = "") -> bool:
        """Whether an end of it was written down: of these bytes, or of any where no digest is given."""
        start = f"{self.occasion.folder}/{_flat(key)}-{sha256[:16]}"
        keys = self.store.keys(self.occasion.folder)
        return any(each.startswith(start) and each.endswith((".sent.json", ".met.json")) for each in keys)

    def tell(self, outcome: Outcome) -> None:
        """Before a step's outcome is handed to whoever asked for it."""
        content = outcome.to_json()
        name = digest(self.occasion.reference.encode() + b"\0" + content)[:16]
        fields = [f"manifest {each}" for each in outcome.manifest] + [
            f"metric {each}" for each in outcome.metrics
        ]
        fields += ["findings"] * bool(outcome.findings)
        record = {
            "key": "",
            "size": len(content),
            "sha256": digest(content),
            "state": "told",
            "told": outcome.reference,
            "reason": outcome.reason,
            "fields": sorted(fields),
        }
        self._keep(f"outcome-{self.occasion.step}-{name}", record)

    def _keep(self, name: str, record: Mapping[str, Any]) -> None:
        occasion = self.occasion
        document = {
            "time": self.now().isoformat(timespec="milliseconds"),
            "step": occasion.step,
            "reference": occasion.reference,
            "round_number": occasion.round_number,
            "attempt": occasion.attempt,
            "ticket": occasion.ticket,
            "protection": occasion.protection,
            "least_sites": occasion.least_sites,
            **record,
        }
        with contextlib.suppress(ObjectExistsError):
            self.store.create(f"{occasion.folder}/{name}.json", canonical_json(document))


def read_departures(store: Store, *, round_number: int | None = None) -> list[Departure]:
    """Everything that has left, in the order of time.

    Args:
        store: the site's own.
        round_number: of which alone records are read; by default of all.

    Raises:
        IntegrityError: a record was altered.
    """
    start = "" if round_number is None else f"{FOLDER}/{round_number:09d}-"
    records = [_read(store, key) for key in store.keys(FOLDER) if key.startswith(start)]
    by_object: dict[tuple[str, str], list[Departure]] = {}
    for each in records:
        if each.key:
            by_object.setdefault((each.occasion.folder, each.key), []).append(each)
    found = [each for each in records if not each.key]
    for of_object in by_object.values():
        found += _joined(of_object)
    return sorted(found, key=lambda each: (each.time, each.key))


def _joined(records: Sequence[Departure]) -> list[Departure]:
    """The departures of one object: an end with the time it was begun at, or a beginning without an end."""
    begun = [each for each in records if each.state == "begun"]
    ended = {each.sha256: each for each in records if each.state == "met"}
    # What was sent is sent, even if a later try met it there.
    ended |= {each.sha256: each for each in records if each.state == "sent"}
    streamed = [each.time for each in begun if not each.sha256]
    found = []
    for each in ended.values():
        times = [*streamed, *(first.time for first in begun if first.sha256 == each.sha256), each.time]
        found.append(replace(each, time=min(times)))
    open_ended = [each for each in begun if (each.sha256 not in ended if each.sha256 else not ended)]
    return found + open_ended


def _read(store: Store, key: str) -> Departure:
    try:
        told = json.loads(store.read(key, limit=MAX_RECORD_BYTES))
        occasion = Occasion(
            step=str(told["step"]),
            reference=str(told["reference"]),
            round_number=int(told["round_number"]),
            attempt=int(told["attempt"]),
            ticket=str(told["ticket"]),
            protection=str(told["protection"]),
            least_sites=int(told["least_sites"]),
        )
        return Departure(
            time=str(told["time"]),
            occasion=occasion,
            key=str(told["key"]),
            state=_state(told.get("state", "begun")),
            size=None if told["size"] is None else int(told["size"]),
            sha256=str(told["sha256"]),
            told=str(told.get("told", "")),
            reason=str(told.get("reason", "")),
            fields=tuple(map(str, told.get("fields", ()))),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise IntegrityError(f"the site's record {key} was altered") from None


def _state(word: str) -> State:
    return _STATES[word]


def _flat(key: str) -> str:
    """A key of the exchange as one segment."""
    return key.replace("/", "=")
