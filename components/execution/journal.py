"""The journal of a round: which step took how long, sent and read how much and found what, for the report.

An entry is created once: a step that finds its work done when a round is resumed does not replace
the figures of the time it did it. Entries hold seconds, bytes and words, nothing else.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass

from components.artifacts.stores import Store, key_of, open_store
from components.errors import CrosscloudError
from components.execution import progress
from components.execution.departures import Departures
from components.execution.recorded_exchange import RecordedExchange


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one step tells of itself.

    Attributes:
        step: its name.
        site: its site, empty for steps outside the sites.
        seconds: it took.
        bytes: it sent to others.
        bytes_read: its warehouse read, as far as the site tells.
        findings: words for what it found, as far as the site tells.
    """

    step: str
    site: str
    seconds: float
    bytes: int = 0
    bytes_read: int = 0
    findings: tuple[str, ...] = ()


def record(exchange_uri: str, ticket: str, entry: Entry, *, departures: Departures | None = None) -> None:
    """Adds `entry` beside the ticket; a step is not failed by a journal that cannot be written.

    Args:
        exchange_uri: store that all parties read.
        ticket: reference of the round's ticket.
        entry: what the step tells.
        departures: of the step's site, which writes it down first; None for a step outside the sites.
    """
    progress.note(
        "done",
        step=entry.step,
        party=entry.site,
        ticket=ticket,
        seconds=entry.seconds,
        bytes_sent=entry.bytes,
    )
    with contextlib.suppress(CrosscloudError):
        exchange: Store = open_store(exchange_uri)
        if departures:
            exchange = RecordedExchange(exchange, departures)
        name = f"{entry.step}-{entry.site}" if entry.site else entry.step
        exchange.create(
            f"{_folder(exchange, ticket)}/journal/{name}.json", json.dumps(asdict(entry)).encode()
        )


def entries(exchange: Store, folder: str) -> list[Entry]:
    """All entries of the round in `folder`, in the order of their names; what is none is passed over."""
    found = []
    for key in exchange.keys(f"{folder}/journal"):
        with contextlib.suppress(CrosscloudError, ValueError, TypeError, KeyError, RecursionError):
            told = json.loads(exchange.read(key, limit=4096))
            found.append(
                Entry(
                    step=str(told["step"]),
                    site=str(told["site"]),
                    seconds=float(told["seconds"]),
                    bytes=int(told["bytes"]),
                    bytes_read=int(told.get("bytes_read", 0)),
                    findings=tuple(map(str, told.get("findings", ()))),
                )
            )
    return found


def _folder(exchange: Store, ticket: str) -> str:
    return key_of(exchange, ticket).rpartition("/")[0]
