"""Runs a step that belongs to no site: its failure is the run's, told in one line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from components.errors import CrosscloudError
from components.execution import journal, progress
from components.execution.outcome import Outcome

ERROR_PREFIX = "crosscloud-error: "


def run(work: Callable[[], Outcome], *, name: str, exchange_uri: str, ticket: str = "") -> Outcome:
    """Does the work and journals it.

    A `CrosscloudError` is printed as one line and ends the process with its exit code; with
    CROSSCLOUD_DEBUG set, the trace is shown instead.
    """
    start = time.monotonic()
    progress.note("begun", step=name, ticket=ticket)
    try:
        outcome = work()
    except CrosscloudError as error:
        line = " ".join(str(error).split())
        print(f"{ERROR_PREFIX}{type(error).__name__}: {line}", file=sys.stderr, flush=True)  # noqa: T201
        progress.note("failed", step=name, ticket=ticket, error=type(error).__name__, message=line)
        if os.environ.get("CROSSCLOUD_DEBUG"):
            raise
        sys.exit(error.exit_code)
    entry = journal.Entry(
        step=name, site="", seconds=round(time.monotonic() - start, 3), bytes=outcome.bytes_sent
    )
    journal.record(exchange_uri, ticket or outcome.reference, entry)
    return outcome
