"""What an attempt uses of a site's caches, which are named by their contents and shared by attempts.

    uses/<td>/<digest of the key>.txt      features/5272….safetensors

It is written down before the cache is looked into: what an attempt is about to find is not to be erased.
"""

from __future__ import annotations

import contextlib
from typing import Final

from components.agreement.ticket import Ticket
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import ObjectExistsError, ObjectMissingError

FOLDER: Final = "uses"
_LONGEST_KEY = 1 << 12


def note_use(store: Store, ticket: Ticket, key: str) -> None:
    """Remembers that the attempt of a ticket uses a cached object, whether or not it is there yet."""
    with contextlib.suppress(ObjectExistsError):
        store.create(_use_key(ticket, key), key.encode())


def is_used(store: Store, ticket: Ticket, key: str) -> bool:
    """Whether the attempt of a ticket has noted that it uses an object."""
    try:
        return store.read(_use_key(ticket, key)) == key.encode()
    except ObjectMissingError:
        return False


def noted_uses(store: Store) -> dict[str, set[str]]:
    """Keys of the cached objects that attempts have used, by td."""
    found: dict[str, set[str]] = {}
    for key in store.keys(FOLDER):
        try:
            named = store.read(key, limit=_LONGEST_KEY).decode(errors="replace")
        except ObjectMissingError:
            # A prune beside this one has erased it, after all that it named and nobody else used.
            continue
        found.setdefault(key.split("/")[1], set()).add(named)
    return found


def _use_key(ticket: Ticket, key: str) -> str:
    return f"{FOLDER}/{ticket.digest}/{digest(key.encode())[:16]}.txt"
