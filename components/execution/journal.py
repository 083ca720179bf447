"""The journal of a round: which step took how long and sent how much, for the report.

An entry is created once: a step that finds its work done when a round is resumed does not replace
the figures of the time it did it. Entries hold seconds and bytes, nothing else.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass

from components.artifacts.stores import Store, key_of, open_store
from components.errors import CrosscloudError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Seconds a step took and bytes it sent; `site` is empty for steps outside the sites."""

    step: str
    site: str
    seconds: float
    bytes: int = 0


def record(exchange_uri: str, ticket: str, entry: Entry) -> None:
    """Adds `entry` beside the ticket; a step is not failed by a journal that cannot be written."""
    with contextlib.suppress(CrosscloudError):
        exchange = open_store(exchange_uri)
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
            seconds, sent = float(told["seconds"]), int(told["bytes"])
            found.append(Entry(step=str(told["step"]), site=str(told["site"]), seconds=seconds, bytes=sent))
    return found


def _folder(exchange: Store, ticket: str) -> str:
    return key_of(exchange, ticket).rpartition("/")[0]
