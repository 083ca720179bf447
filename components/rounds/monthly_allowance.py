"""Which rounds a calendar month has had, by the tickets that were issued in it.

Months are UTC's. A ticket belongs to the month of its snapshot, which the coordinator set when it issued it;
the sites charge it by their own clocks, so one that is issued in a month's last minutes may be the next
month's in a ledger. The ledgers bind: what is counted here is for display, and to refuse early.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from components.artifacts.stores import Store
from components.errors import IntegrityError


def month_of(time: datetime) -> str:
    """Name of the calendar month that a time lies in, as in ledgers: 2026-11."""
    return time.astimezone(UTC).strftime("%Y-%m")


def next_month(month: str) -> datetime:
    """When the month after one begins."""
    year, number = map(int, month.split("-"))
    return datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)


def issued(exchange: Store) -> list[tuple[int, int]]:
    """Round and attempt of every ticket, ascending."""
    folders = [key.split("/")[1] for key in exchange.keys("rounds") if key.endswith("/ticket.json")]
    return sorted((int(number), int(attempt)) for number, _, attempt in (f.partition("-") for f in folders))


def issued_in(exchange: Store, month: str, *, first_round: int, through: int | None = None) -> list[int]:
    """Round numbers of a month's tickets, one for each attempt.

    They are read from the newest back, up to the first of an earlier month.

    Args:
        exchange: store that all parties read.
        month: as `month_of` names it.
        first_round: of the schedule: rounds before it are another one's.
        through: number of the last round that is counted; None for all.

    Raises:
        IntegrityError: a ticket is not in the form this version knows.
    """
    return sorted(_of_month(exchange, month, first_round, through))


def month_of_round(exchange: Store, round_number: int) -> str:
    """The month in which the newest ticket up to a round was issued; empty before the first.

    Raises:
        IntegrityError: see `issued_in`.
    """
    places = [place for place in issued(exchange) if place[0] <= round_number]
    return _month(exchange, *places[-1]) if places else ""


def _of_month(exchange: Store, month: str, first_round: int, through: int | None) -> Iterator[int]:
    for number, attempt in reversed(issued(exchange)):
        if number < first_round:
            return
        if through is not None and number > through:
            continue
        found = _month(exchange, number, attempt)
        if found < month:
            return
        if found == month:
            yield number


def _month(exchange: Store, number: int, attempt: int) -> str:
    key = f"rounds/{number:05d}-{attempt}/ticket.json"
    try:
        return month_of(
            datetime.fromisoformat(json.loads(exchange.read(key, limit=1 << 16))["body"]["snapshot"])
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IntegrityError(f"{key} is no ticket of a form this version knows") from None
