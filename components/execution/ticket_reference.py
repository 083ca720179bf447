"""What a ticket's reference tells before the ticket is read: for words, never for what is done with data.

Of an update it is …/rounds/00003-1/ticket.json, of its attempt's metrics …/metrics/00003-1/ticket.json.
"""

from __future__ import annotations

import re
from typing import Final

METRICS: Final = "metrics"
_TICKET = re.compile(r"(?:.*/)?(rounds|metrics)/([0-9]{5,9})-([0-9]{1,6})/ticket\.json")


def round_and_attempt(reference: str) -> tuple[int, int]:
    """Numbers of the round and attempt; zeros where it is no ticket's reference."""
    found = _TICKET.fullmatch(reference)
    return (int(found[2]), int(found[3])) if found else (0, 0)


def is_for_metrics(reference: str) -> bool:
    """Whether the ticket lies where those for metrics do."""
    found = _TICKET.fullmatch(reference)
    return found is not None and found[1] == METRICS
