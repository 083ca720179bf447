"""Whether a store can be written, and really creates an object only if it is absent."""

from __future__ import annotations

import secrets

from components.artifacts.stores import Store, open_store
from components.errors import ConditionalCreateUnsupportedError, ObjectExistsError, StoreError

_CONTENT = b"crosscloud doctor creates this object twice and removes it again.\n"


def probe(uri: str) -> str:
    """Creates an object that nobody else means, twice, and removes it again.

    Returns:
        What was seen, in words.

    Raises:
        StoreError: the store cannot be reached, written or read.
        ConditionalCreateUnsupportedError: the second create was not refused.
    """
    store = open_store(uri)
    key = f"doctor-{secrets.token_hex(8)}"
    store.create(key, _CONTENT)
    try:
        _require_condition(store, key)
    finally:
        left = _left(store, key)
    return f"{uri} can be written and refuses to create an object twice{left}"


def _require_condition(store: Store, key: str) -> None:
    try:
        store.create(key, _CONTENT)
    except ObjectExistsError:
        if store.read(key) != _CONTENT:
            raise StoreError(f"{store.uri} does not give back what was written to it: use another") from None
        return
    raise ConditionalCreateUnsupportedError(
        f"{store.uri} lets an object be created twice, so two runs could overwrite each other's rounds: use "
        "a store that honours create-if-absent"
    )


def _left(store: Store, key: str) -> str:
    """What to say of the probe where it could not be removed."""
    try:
        store.remove(key)
    except StoreError:
        return f"; {key} stays there, as nothing may be removed"
    return ""
