"""What a site may erase of its own store: caches and working files of attempts that are over for it.

An attempt is over for a site once the site has accepted a later ticket, which is never before the round of
the one before was committed or void; the time is counted from there. What the site remembers against replay
(`tickets`, `rosters`, `sharers`, `cutoffs`, `released`, `counted`, `ledger-heads`), what it has dealt,
released and measured, its ledgers, and what it has written down of itself (`left`, `notes`) is not among it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from components.agreement.cache_uses import noted_uses
from components.agreement.site_records import SeenTicket, accepted_tickets
from components.artifacts.erasing import Erasable
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectMissingError

_WORK = {
    "updates": "updates in clear",
    "sealed": "copies of sealed updates",
    "secrets": "secrets of attempts",
}
_TRACES = {"ingested": "accounts of reading", "uses": "notes of what was used"}
_BY_CONTENT = {"rows": "rows", "features": "features", "adaptations": "adaptations of older models"}
_FOUND_AT_THE_BEGINNING = ("rows", "features")
"""What an attempt that has not trained yet may be about to find."""
RECORDS = {"left": "records of what has left", "notes": "notes of what came to nothing"}


@dataclass(frozen=True, kw_only=True)
class SiteRetention:
    """What a site may erase now.

    Attributes:
        erasable: in the order in which it is to go.
        waiting: attempt that keeps rows and features as they are; empty for none.
    """

    erasable: tuple[Erasable, ...]
    waiting: str = ""


def site_retention(store: Store, *, keep_for: timedelta, now: datetime) -> SiteRetention:
    """Looks through a site's store.

    Args:
        store: the site's own.
        keep_for: time since the site accepted the next ticket.
        now: with its time zone.

    Raises:
        IntegrityError: what the site remembers of tickets or rows was altered.
    """
    tickets = accepted_tickets(store)
    if not tickets:
        return SiteRetention(erasable=())
    over = {
        each.ticket
        for each, following in pairwise(tickets)
        if now - datetime.fromisoformat(following.seen_at) >= keep_for
    }
    keys, newest = store.keys(), tickets[-1]
    begins = f"updates/{newest.ticket}.npy" not in keys
    uses = _uses(store, frozenset(keys), tickets)
    erasable = list(_of_attempts(keys, _WORK, over))
    for kind, words in _BY_CONTENT.items():
        users = [each.ticket for each in tickets if uses[each.ticket][kind]]
        if not users or (begins and kind in _FOUND_AT_THE_BEGINNING):
            # Where nothing is known to be in use, nothing is known to be out of use.
            continue
        over_for_kind = over - {users[-1]}
        kept = set[str]().union(*(uses[td][kind] for td in users if td not in over_for_kind))
        erasable += [
            Erasable(kind=words, key=key) for key in keys if key.startswith(f"{kind}/") and key not in kept
        ]
    # Last, since they say what was used: whoever is interrupted finds them again.
    last_users = {
        next((each.ticket for each in reversed(tickets) if uses[each.ticket][kind]), "")
        for kind in _BY_CONTENT
    }
    erasable += _of_attempts(keys, _TRACES, over - last_users)
    waiting = f"attempt {newest.attempt} of round {newest.round_number}" if begins else ""
    return SiteRetention(erasable=tuple(erasable), waiting=waiting)


def old_records(store: Store, *, before: datetime) -> Iterator[Erasable]:
    """What a site has written down of itself before a time, which only its officer may give.

    Raises:
        IntegrityError: a record was altered.
    """
    for folder, name in (("left", "time"), ("notes", "at")):
        for key in store.keys(folder):
            try:
                time = datetime.fromisoformat(json.loads(store.read(key))[name])
                is_old = time < before
            except ObjectMissingError:  # erased by a prune beside this one
                continue
            except (ValueError, KeyError, TypeError, RecursionError):
                raise IntegrityError(f"the site's record {key} was altered") from None
            if is_old:
                yield Erasable(kind=RECORDS[folder], key=key)


def _of_attempts(keys: Iterable[str], kinds: Mapping[str, str], over: set[str]) -> Iterator[Erasable]:
    """Objects of these kinds that bear the td of an attempt that is over."""
    for key in keys:
        folder, _, rest = key.partition("/")
        if folder in kinds and rest.partition("/")[0].partition(".")[0] in over:
            yield Erasable(kind=kinds[folder], key=key)


def _uses(
    store: Store, keys: frozenset[str], tickets: Iterable[SeenTicket]
) -> dict[str, dict[str, set[str]]]:
    """Keys of the cached objects that each attempt has used, by td and kind."""
    noted = noted_uses(store)
    found: dict[str, dict[str, set[str]]] = {}
    for each in tickets:
        used = set(noted.get(each.ticket, ()))
        pointer = f"ingested/{each.ticket}.json"
        if pointer in keys:
            used |= _rows(store, pointer)
        found[each.ticket] = {
            kind: {key for key in used if key.startswith(f"{kind}/")} for kind in _BY_CONTENT
        }
    return found


def _rows(store: Store, pointer: str) -> set[str]:
    """The index that an attempt's account of reading names, and its shards."""
    try:
        index = "rows/" + str(json.loads(store.read(pointer))["uri"]).rpartition("/rows/")[2]
        shards = json.loads(store.read(index))["shards"]
        return {index, *(str(shard["key"]) for shard in shards)}
    except ObjectMissingError:
        # Erased by a prune that was interrupted, or that runs beside this one.
        return set()
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IntegrityError(f"the site's record {pointer} was altered") from None
