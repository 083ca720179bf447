"""The kinds of values that are masked, and the token that stands in for each."""

from __future__ import annotations

from collections.abc import Sequence

from components.errors import UsageError

TOKENS = {
    "iban": "<IBAN>",
    "card": "<CARD>",
    "email": "<EMAIL>",
    "ip": "<IP>",
    "ssn": "<SSN>",
    "phone": "<PHONE>",
}
"""Token by kind. The order is the rank of a kind where matches overlap: checksums first, phones last."""

DEFAULT_KINDS = tuple(TOKENS)


def ranked(kinds: Sequence[str]) -> tuple[str, ...]:
    """`kinds`, each once, in the order of `TOKENS`, so that the order they are named in does not count.

    Raises:
        UsageError: There is no such kind, or none is named.
    """
    unknown = sorted(set(kinds) - set(TOKENS))
    if unknown or not kinds:
        named = ", ".join(map(repr, unknown)) or "none"
        raise UsageError(
            f"kinds of values to mask: {named} of {', '.join(TOKENS)}: name one or more of these"
        )
    return tuple(kind for kind in TOKENS if kind in kinds)
