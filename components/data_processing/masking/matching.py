"""Where the sensitive values of a text are, without overlaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from components.data_processing.masking.account_numbers import find_cards, find_ibans, find_ssns
from components.data_processing.masking.addresses import find_emails, find_ips
from components.data_processing.masking.kinds import DEFAULT_KINDS, TOKENS
from components.data_processing.masking.phones import find_phones

_FINDERS: dict[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "iban": find_ibans,
    "card": find_cards,
    "email": find_emails,
    "ip": find_ips,
    "ssn": find_ssns,
    "phone": find_phones,
}
_RANKS = {kind: rank for rank, kind in enumerate(TOKENS)}


class Match(NamedTuple):
    """A sensitive value is in `text[start:end]`. The value itself is not kept."""

    start: int
    end: int
    kind: str


def find_matches(text: str, kinds: Sequence[str] = DEFAULT_KINDS) -> list[Match]:
    """The sensitive values of `text`, in order, none overlapping another.

    Matches that overlap become one, from the first character of any to the last of any, so that no part of a
    value is left behind; its kind is the one that ranks first in `TOKENS`.
    """
    found = sorted(Match(start, end, kind) for kind in kinds for start, end in _FINDERS[kind](text))
    matches: list[Match] = []
    for match in found:
        if matches and match.start < matches[-1].end:
            last = matches.pop()
            kind = min(last.kind, match.kind, key=_RANKS.__getitem__)
            matches.append(Match(last.start, max(last.end, match.end), kind))
        else:
            matches.append(match)
    return matches
