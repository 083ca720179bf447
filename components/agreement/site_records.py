"""What a site remembers in its own store of what it has agreed to, so that it agrees only once.

tickets/000000003-000001.json    the ticket it accepted for attempt 1 of round 3
tickets/000000003-000001-metrics.json   the one for the metrics of the same attempt
counted/<td>.txt                 whom a sum of counts without noise was of, by the ticket for it
rosters/<td>.txt                 rd: one roster a ticket
sharers/<rd>.txt                 sd: under `smc`, one set of sites that shared their keys a roster
cutoffs/<rd>.txt                 ud: one set of sites a roster
released/000000003-update.txt    td of the attempt it released its masks in
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from components.agreement.ticket import METRICS, UPDATE, Ticket
from components.artifacts.documents import canonical_json
from components.artifacts.stores import Store, create_or_read
from components.errors import IntegrityError, RefusedError

_DAY = timedelta(hours=24)
_CLOCKS_DIFFER = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class SeenTicket:
    """A ticket the site has accepted."""

    round_number: int
    attempt: int
    ticket: str
    snapshot: str
    previous_folder: str
    seen_at: str
    federation: str = ""
    """Empty in records of before it was written down."""
    purpose: str = UPDATE


def accept_ticket(store: Store, ticket: Ticket, *, now: datetime, rounds_a_day: int | None) -> None:
    """Remembers a ticket that is newer than every other, or passes the newest again.

    One for metrics belongs to the newest that the site has accepted for an update: it reads no warehouse,
    and is no further round of the day.

    Args:
        store: the site's own.
        ticket: verified.
        now: with its time zone.
        rounds_a_day: most tickets in 24 hours, None for any number.

    Raises:
        RefusedError: the store serves another federation, or the ticket is of an old round, a second one
            for its attempt, of data older than a day or than before, or of the future, of a model older
            than before, a new attempt of a round the site has released in, or one round too many; or it is
            for the metrics of an attempt that the site has not accepted.
    """
    place = (ticket.round_number, ticket.attempt)
    before = list(_seen(store))
    _require_own_store(ticket, before)
    seen = [each for each in before if each.ticket != ticket.digest]
    same = [each for each in seen if each.purpose == ticket.purpose]
    if any((each.round_number, each.attempt) == place for each in same):
        _refuse(f"a second ticket was issued for attempt {ticket.attempt} of round {ticket.round_number}")
    if any((each.round_number, each.attempt) > place for each in seen):
        newest = max(each.round_number for each in seen)
        _refuse(
            f"round {ticket.round_number} was replayed: the site has taken part in round {newest} since; a "
            "federation that begins anew does so with a store_uri of its own"
        )
    _require_not_released(store, ticket)
    if ticket.purpose == METRICS:
        _require_round_of(ticket, seen)
    else:
        _require_newer(ticket, same, now=now, known=len(seen) < len(before), rounds_a_day=rounds_a_day)
    record = {
        "round_number": ticket.round_number,
        "attempt": ticket.attempt,
        "ticket": ticket.digest,
        "snapshot": ticket.snapshot,
        "previous_folder": ticket.previous_folder,
        "seen_at": now.isoformat(),
        "federation": ticket.federation,
        "purpose": ticket.purpose,
    }
    key = _ticket_key(ticket)
    if json.loads(create_or_read(store, key, canonical_json(record)))["ticket"] != ticket.digest:
        _refuse(f"a second ticket was issued for attempt {ticket.attempt} of round {ticket.round_number}")


def _require_round_of(ticket: Ticket, seen: Iterable[SeenTicket]) -> None:
    """Passes metrics of a round that the site has accepted: of its data, as they were read then."""
    agreed = (ticket.round_number, ticket.attempt, ticket.snapshot)
    if all((each.round_number, each.attempt, each.snapshot) != agreed for each in seen):
        _refuse(
            f"the site has not accepted attempt {ticket.attempt} of round {ticket.round_number}, "
            "whose metrics are asked for"
        )


def _require_newer(
    ticket: Ticket, seen: Sequence[SeenTicket], *, now: datetime, known: bool, rounds_a_day: int | None
) -> None:
    """Passes an update's ticket that goes back behind no other: in its data, its receipt, or its day.

    Args:
        ticket: verified.
        seen: all others for updates that the site has accepted.
        now: with its time zone.
        known: whether the site has accepted this one before.
        rounds_a_day: most tickets in 24 hours, None for any number.
    """
    snapshot = _time(ticket.snapshot)
    if any(_time(each.snapshot) > snapshot for each in seen):
        _refuse(f"the snapshot {ticket.snapshot} lies before that of an earlier round: data never go back")
    if not known:
        # A ticket that was accepted is resumed whenever it is: its snapshot stays what was agreed to.
        _require_recent(ticket.snapshot, snapshot, now)
    if any(_origin(each.previous_folder) > _origin(ticket.previous_folder) for each in seen):
        _refuse(f"round {ticket.round_number} starts from an older receipt than an earlier round did")
    recent = [each for each in seen if now - _time(each.seen_at) < _DAY]
    if rounds_a_day is not None and len(recent) >= rounds_a_day:
        _refuse(f"the site's policy allows {rounds_a_day} rounds a day and they are used up")


def accepted_tickets(store: Store) -> list[SeenTicket]:
    """All tickets the site has accepted, by round and attempt, those for metrics behind their update's.

    Raises:
        IntegrityError: a record of one was altered.
    """
    return sorted(_seen(store), key=lambda each: (each.round_number, each.attempt, each.purpose == METRICS))


def accepted_metrics(store: Store, ticket: Ticket) -> tuple[str, ...]:
    """Td of the ticket for metrics that belongs to an update's, where the site has accepted it."""
    place = (ticket.round_number, ticket.attempt)
    return tuple(
        each.ticket
        for each in _seen(store)
        if each.purpose == METRICS and (each.round_number, each.attempt) == place
    )


def has_accepted(store: Store, ticket: Ticket) -> bool:
    """Whether this is the ticket that `accept_ticket` remembered for its attempt."""
    key = _ticket_key(ticket)
    if not store.exists(key):
        return False
    return bool(json.loads(store.read(key, limit=1 << 16))["ticket"] == ticket.digest)


def require_accepted(store: Store, ticket: Ticket) -> None:
    """Passes the ticket that `accept_ticket` remembered for its attempt.

    Raises:
        RefusedError: the site has not accepted this ticket.
    """
    if not has_accepted(store, ticket):
        _refuse(
            f"the site has not accepted the ticket of round {ticket.round_number}: "
            f"{'count' if ticket.purpose == METRICS else 'ingest'!r} does that"
        )


def accept_roster(store: Store, ticket: Ticket, roster: str) -> None:
    """Remembers rd for a ticket.

    Raises:
        RefusedError: another roster was called for it before.
    """
    if create_or_read(store, f"rosters/{ticket.digest}.txt", roster.encode()) != roster.encode():
        _refuse(f"a second roster was called for round {ticket.round_number}")


def accepted_roster(store: Store, ticket: Ticket) -> str:
    """The rd the site sealed under; empty where it did not."""
    key = f"rosters/{ticket.digest}.txt"
    return store.read(key, limit=1 << 10).decode() if store.exists(key) else ""


def accept_sharers(store: Store, ticket: Ticket, *, roster: str, sharers: str) -> None:
    """Remembers sd for a roster.

    Raises:
        RefusedError: another set of sharers was fixed for it before.
    """
    if create_or_read(store, _sharers_key(roster), sharers.encode()) != sharers.encode():
        _refuse(f"a second set of sharers was fixed for the roster of round {ticket.round_number}")


def accepted_sharers(store: Store, roster: str) -> str:
    """The sd the site sealed under; empty where it did not."""
    key = _sharers_key(roster)
    return store.read(key, limit=1 << 10).decode() if store.exists(key) else ""


def accept_cutoff(store: Store, ticket: Ticket, *, roster: str, cutoff: str) -> None:
    """Remembers ud for a roster, and that this attempt is the one released in its round.

    Raises:
        RefusedError: another set was fixed for this roster, or the site has released its masks in
            another attempt of this round and purpose.
    """
    _require_not_released(store, ticket)
    if create_or_read(store, f"cutoffs/{roster}.txt", cutoff.encode()) != cutoff.encode():
        _refuse(f"a second set of sites was fixed for the roster of round {ticket.round_number}")
    if create_or_read(store, _released_key(ticket), ticket.digest.encode()) != ticket.digest.encode():
        _refuse(_released_text(ticket))


def remember_counted(store: Store, ticket: Ticket, members: Collection[str]) -> None:
    """Remembers, before its masks are lifted, of whom a sum of counts without noise is."""
    create_or_read(store, f"counted/{ticket.digest}.txt", "\n".join(sorted(members)).encode())


def counted_sets(store: Store, ticket: Ticket) -> list[frozenset[str]]:
    """The sets that other sums of counts were of which the site has had a part in, each once."""
    others = [key for key in store.keys("counted") if key != f"counted/{ticket.digest}.txt"]
    return sorted({frozenset(store.read(key).decode().splitlines()) for key in others}, key=sorted)


def last_release(store: Store) -> tuple[int, str]:
    """Round and folder of the newest attempt whose update the site has released; (0, "") before any."""
    released = {store.read(key, limit=1 << 10).decode() for key in store.keys("released")}
    attempts = [
        (each.round_number, each.attempt)
        for each in _seen(store)
        if each.ticket in released and each.purpose == UPDATE
    ]
    if not attempts:
        return 0, ""
    round_number, attempt = max(attempts)
    return round_number, f"rounds/{round_number:05d}-{attempt}"


def _require_own_store(ticket: Ticket, before: Iterable[SeenTicket]) -> None:
    """What was agreed to in another federation would stand in the way of this one, and its rounds of that."""
    others = {each.federation for each in before} - {"", ticket.federation}
    if others:
        _refuse(
            f"the site's store remembers rounds of {min(others)}: give {ticket.federation} a store_uri of "
            "its own at this site"
        )


def _require_recent(written: str, snapshot: datetime, now: datetime) -> None:
    """Whoever chose an old time would read rows that were deleted since; one to come would end all rounds."""
    if now - snapshot > _DAY:
        _refuse(f"the snapshot {written} is older than a day: a new attempt of the round has a new one")
    if snapshot - now > _CLOCKS_DIFFER:
        _refuse(f"the snapshot {written} lies in the future: set the clocks of coordinator and site")


def _require_not_released(store: Store, ticket: Ticket) -> None:
    key = _released_key(ticket)
    if store.exists(key) and store.read(key, limit=1 << 10).decode() != ticket.digest:
        _refuse(_released_text(ticket))


def _released_text(ticket: Ticket) -> str:
    return (
        f"the site has released its masks in another attempt of round {ticket.round_number}: "
        "the next round may follow, another attempt of this one may not"
    )


def _released_key(ticket: Ticket) -> str:
    return f"released/{ticket.round_number:09d}-{ticket.purpose}.txt"


def _sharers_key(roster: str) -> str:
    return f"sharers/{roster}.txt"


def _ticket_key(ticket: Ticket) -> str:
    metrics = f"-{METRICS}" if ticket.purpose == METRICS else ""
    return f"tickets/{ticket.round_number:09d}-{ticket.attempt:06d}{metrics}.json"


def _seen(store: Store) -> Iterator[SeenTicket]:
    for key in store.keys("tickets"):
        try:
            yield SeenTicket(**json.loads(store.read(key, limit=1 << 16)))
        except (ValueError, TypeError):
            raise IntegrityError(f"the site's record {key} was altered") from None


def _origin(folder: str) -> int:
    """Round of the receipt in a folder of the exchange; 0 where a round starts from the genesis."""
    return int(folder.removeprefix("rounds/").partition("-")[0]) if folder else 0


def _time(text: str) -> datetime:
    """A time with its zone.

    Raises:
        RefusedError: it is not one.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise RefusedError(
            f"{text!r} is not a time with its zone", disclosed="the ticket's snapshot is not a time"
        )
    return time


def _refuse(text: str) -> None:
    raise RefusedError(text, disclosed=text)
