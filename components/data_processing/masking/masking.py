"""Replaces sensitive values by a token of their kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from components.data_processing.masking.kinds import DEFAULT_KINDS, TOKENS, ranked
from components.data_processing.masking.matching import find_matches

# Every value of every kind holds one of these, and no token does.
_TELLTALE = re.compile(r"[\d@]")


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Texts without their sensitive values; printing it shows none of them.

    Attributes:
        texts: one a text, in their order; a text without matches is the same object.
        counts: replaced values by kind, 0 included.
    """

    texts: list[str] = field(repr=False)
    counts: dict[str, int]


def mask(texts: Sequence[str], kinds: Sequence[str] = DEFAULT_KINDS) -> Masked:
    """`texts` with every sensitive value replaced by its token, such as `<CARD>`.

    Masking what is masked changes nothing, and a text's result depends on no other text. Counts are exact:
    who shows them to another party rounds them first.

    Args:
        texts: Free text of any length, each masked by itself.
        kinds: Which values, from `DEFAULT_KINDS`, in any order.

    Raises:
        UsageError: There is no such kind, or none is named.
        TypeError: `texts` is one string.
    """
    if isinstance(texts, str):
        raise TypeError("texts are a sequence of strings, and this is one string")
    wanted = ranked(kinds)
    counts = dict.fromkeys(wanted, 0)
    masked = [_masked(text, wanted, counts) if _TELLTALE.search(text) else text for text in texts]
    return Masked(texts=masked, counts=counts)


def _masked(text: str, kinds: Sequence[str], counts: dict[str, int]) -> str:
    """`text` masked until nothing is found in it; `counts` is added to.

    A token can show a value that what stood there hid: the digits beside a card, say. Each pass takes
    digits or an @ away and brings none, so there is a last one.
    """
    while matches := find_matches(text, kinds):
        parts: list[str] = []
        done = 0
        for start, end, kind in matches:
            parts += text[done:start], TOKENS[kind]
            done = end
            counts[kind] += 1
        text = "".join(parts) + text[done:]
    return text
