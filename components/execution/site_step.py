"""Runs one step of one site so that nothing it does can fail the run of the others.

The work is done in a forked child with a deadline of its own, below the pod's. Whatever happens
there — an error, a crash in native code, the out-of-memory killer, silence — becomes a reason that
the roster understands. The site's own people find the full message in their store under `notes/`;
nothing that may quote a record is printed. A crash leaves no core, and the child ends with its guard.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from components.artifacts.stores import open_store
from components.errors import StoreError, UsageError
from components.execution import journal, progress
from components.execution.outcome import Outcome, disclosed_reason, plain
from components.execution.process_limits import end_with, lasting_process, leave_no_core
from components.execution.suspicion import Suspicion


@dataclass(frozen=True, kw_only=True)
class SiteStep:
    """A step at a site.

    Attributes:
        name: of the step, as people read it (`train`).
        site: name of the site.
        store_uri: the site's own store.
        exchange_uri: the store all parties read.
        ticket: reference of the round's ticket.
        deadline_s: seconds the work may take, 1 or more.
    """

    name: str
    site: str
    store_uri: str
    exchange_uri: str
    ticket: str
    deadline_s: int

    def run(self, work: Callable[[], Outcome], *, reason: str = "") -> Outcome:
        """Does the work, or passes on the reason why this site is already left out."""
        if reason:
            return Outcome(reason=plain(reason))
        start = time.monotonic()
        progress.note("begun", step=self.name, party=self.site, ticket=self.ticket)
        outcome = self._guarded(work)
        if outcome.reason:
            progress.tell(f"{progress.LEFT_OUT}{outcome.reason}")
            progress.note(
                "left_out", step=self.name, party=self.site, ticket=self.ticket, reason=outcome.reason
            )
        else:
            seconds = round(time.monotonic() - start, 3)
            entry = journal.Entry(
                step=self.name,
                site=self.site,
                seconds=seconds,
                bytes=outcome.bytes_sent,
                bytes_read=outcome.bytes_read,
                findings=tuple(map(plain, outcome.findings)),
            )
            journal.record(self.exchange_uri, self.ticket, entry)
        return outcome

    def _guarded(self, work: Callable[[], Outcome]) -> Outcome:
        reader, writer = os.pipe()
        suspicion, parent = Suspicion(), lasting_process()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            os.close(reader)
            self._answer(work, writer, suspicion, parent)
        os.close(writer)
        try:
            answer = _read_until(reader, time.monotonic() + self.deadline_s)
        finally:
            os.close(reader)
        if answer is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if answer is None:
            return Outcome(reason=f"timeout: {self.name} did not end within {self.deadline_s} s")
        ended = os.waitstatus_to_exitcode(status)
        if ended == -signal.SIGKILL:
            return Outcome(reason="oom")
        if ended < 0 and (what := suspicion.read()):
            return Outcome(reason=plain(f"refused: {what} ended the process by signal {-ended}"))
        if ended < 0:
            return Outcome(reason=f"failed: ended by signal {-ended}")
        if not answer:
            return Outcome(reason=f"failed: {self.name} ended without an answer")
        return Outcome.from_json(answer)

    def _answer(self, work: Callable[[], Outcome], writer: int, suspicion: Suspicion, parent: int) -> None:
        """The child: works, answers through the pipe, and never returns into the caller's stack."""
        try:
            end_with(parent)
            leave_no_core()
            suspicion.watch()
            try:
                answer = work().to_json()
            except BaseException as error:
                self._note(error)
                answer = Outcome(reason=disclosed_reason(error)).to_json()
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(answer)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(0)

    def _note(self, error: BaseException) -> None:
        at = datetime.now(UTC)
        note = {
            "step": self.name,
            "at": at.isoformat(timespec="seconds"),
            "ticket": self.ticket,
            "error": type(error).__name__,
            "message": str(error),
            "trace": traceback.format_exception(error),
        }
        try:
            store = open_store(self.store_uri)
            store.create(f"notes/{at:%Y%m%dT%H%M%S.%f}-{self.name}.json", json.dumps(note, indent=1).encode())
        except (StoreError, UsageError) as failure:
            progress.tell(f"no note could be kept at {self.site} ({type(failure).__name__})")


def _read_until(descriptor: int, deadline: float) -> bytes | None:
    """All bytes up to the end of the pipe, or None when the deadline comes first."""
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(descriptor, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
