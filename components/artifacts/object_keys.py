"""The names objects have inside a store: "/"-separated, plain, never a way out of the store."""

from __future__ import annotations

import re

from components.errors import UsageError

_SEGMENT = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")


def is_key(text: str) -> bool:
    """Whether `text` can name an object: segments of `A-Za-z0-9._=-` that do not start with a dot."""
    return all(_SEGMENT.fullmatch(segment) for segment in text.split("/"))


def check_key(key: str) -> str:
    """Return `key`.

    Raises:
        UsageError: `key` cannot name an object.
    """
    if not is_key(key):
        raise UsageError(
            f"{key!r} is not an object key: write segments of A-Z a-z 0-9 . _ = -, separated by single"
            " slashes, none empty or starting with a dot"
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` without its one optional trailing slash; the empty prefix stands for the whole store.

    Raises:
        UsageError: `prefix` cannot be the beginning of a key at a slash.
    """
    return check_key(prefix.removesuffix("/")) if prefix else ""
