"""Runs a step that belongs to no site: its failure is the run's, told in one line.

Under a ticket for metrics too few sites are no failure: the step ends with nothing, and its journal entry
says why. A step that is given no ticket was asked for nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from components.errors import CrosscloudError, QuorumNotReachedError
from components.execution import journal, progress
from components.execution.outcome import Outcome, plain
from components.execution.ticket_reference import is_for_metrics

ERROR_PREFIX = "crosscloud-error: "


def run(work: Callable[[], Outcome], *, name: str, exchange_uri: str, ticket: str | None = None) -> Outcome:
    """Does the work and journals it.

    Args:
        work: of the step.
        name: of the step.
        exchange_uri: store that all parties read.
        ticket: reference of the ticket; empty where none was issued, and nothing is done then; None for the
            step that issues it.

    A `CrosscloudError` is printed as one line and ends the process with its exit code; with
    CROSSCLOUD_DEBUG set, the trace is shown instead.
    """
    if ticket == "":
        return Outcome()
    start, told = time.monotonic(), ticket or ""
    progress.note("begun", step=name, ticket=told)
    try:
        outcome = _unless_short(work, told)
    except CrosscloudError as error:
        line = " ".join(str(error).split())
        print(f"{ERROR_PREFIX}{type(error).__name__}: {line}", file=sys.stderr, flush=True)  # noqa: T201
        progress.note("failed", step=name, ticket=told, error=type(error).__name__, message=line)
        if os.environ.get("CROSSCLOUD_DEBUG"):
            raise
        sys.exit(error.exit_code)
    entry = journal.Entry(
        step=name,
        site="",
        seconds=round(time.monotonic() - start, 3),
        bytes=outcome.bytes_sent,
        findings=outcome.findings,
    )
    journal.record(exchange_uri, told or outcome.reference, entry)
    return outcome


def _unless_short(work: Callable[[], Outcome], ticket: str) -> Outcome:
    """The outcome of the work; of metrics for which there are too few sites, one that refers to nothing."""
    try:
        return work()
    except QuorumNotReachedError as error:
        if not is_for_metrics(ticket):
            raise
        progress.tell(plain(str(error)))
        return Outcome(findings=(plain(str(error)),))
