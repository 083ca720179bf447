"""Lines by which a running step tells how far it is, to people and to collectors of logs.

A local run shows the lines for people live, and reads in them how a step ended: they are always printed. With
CROSSCLOUD_LOG=json each begin and end of a step is a line of JSON too, which names the run by KFP_RUN_ID, as
far as the pod is told it, and the round by its ticket, which all parties share. None of them holds data.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import Final, Literal

PROGRESS_PREFIX = "crosscloud-progress: "
LEFT_OUT = "left out: "
LOG: Final = "CROSSCLOUD_LOG"
RUN_ID: Final = "KFP_RUN_ID"
FEDERATION: Final = "CROSSCLOUD_FEDERATION"


def tell(text: str) -> None:
    """Prints one line of progress. It may be read by anybody who reads the pod's log: no data."""
    print(f"{PROGRESS_PREFIX}{text}", file=sys.stderr, flush=True)  # noqa: T201


def note(
    event: Literal["begun", "done", "left_out", "failed"],
    *,
    step: str,
    party: str = "",
    ticket: str = "",
    **facts: str | float,
) -> None:
    """Prints one line of JSON where the log is one of JSON; otherwise nothing.

    Args:
        event: what has happened to the step.
        step: its name.
        party: its site; empty for steps outside the sites.
        ticket: reference of the round's ticket; empty before it is issued.
        facts: what else anybody may know: seconds, bytes, a reason. No data, and nothing computed from it.
    """
    if os.environ.get(LOG) != "json":
        return
    told: dict[str, str | float] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "severity": "ERROR" if event == "failed" else "WARNING" if event == "left_out" else "INFO",
        "event": event,
        "run": os.environ.get(RUN_ID, ""),
        "federation": os.environ.get(FEDERATION, ""),
        "ticket": ticket,
        "party": party,
        "step": step,
    }
    print(json.dumps(told | facts), file=sys.stderr, flush=True)  # noqa: T201
