"""Runs one step of one site so that nothing it does can fail the run of the others.

The work is done in a forked child with a deadline of its own, below the pod's. Whatever happens
there — an error, a crash in native code, the out-of-memory killer, silence — becomes a reason that
the roster understands. The site's own people find the full message in their store under `notes/`, and under
`left/` what the step told the others; nothing that may quote a record is printed. A crash leaves no core,
and the child ends with its guard.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from components.artifacts.stores import open_store
from components.errors import StoreError, UsageError
from components.execution import journal, progress
from components.execution.departures import Departures, Occasion
from components.execution.forking import fork
from components.execution.notes import keep_note
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
        outcome = self._recorded(self._guarded(work))
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
            journal.record(self.exchange_uri, self.ticket, entry, departures=self._departures(outcome))
        return outcome

    def _departures(self, outcome: Outcome) -> Departures:
        occasion = Occasion.referred(self.name, self.ticket, ticket=outcome.ticket)
        return Departures(store=open_store(self.store_uri), occasion=occasion)

    def _recorded(self, outcome: Outcome) -> Outcome:
        """The outcome once the site has written down that it leaves; a bare reason where it cannot."""
        try:
            self._departures(outcome).tell(outcome)
        except (StoreError, UsageError) as failure:
            progress.tell(f"nothing can be written down at {self.site} ({type(failure).__name__})")
            return outcome if outcome.reason else Outcome(reason=disclosed_reason(failure))
        return outcome

    def _guarded(self, work: Callable[[], Outcome]) -> Outcome:
        reader, writer = os.pipe()
        suspicion, parent = Suspicion(), lasting_process()
        sys.stdout.flush()
        sys.stderr.flush()
        child = fork()
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
            return self._lost(f"timeout: {self.name} did not end within {self.deadline_s} s")
        ended = os.waitstatus_to_exitcode(status)
        if ended == -signal.SIGKILL:
            return self._lost("oom")
        if ended < 0 and (what := suspicion.read()):
            return self._lost(plain(f"refused: {what} ended the process by signal {-ended}"))
        if ended < 0:
            return self._lost(f"failed: ended by signal {-ended}")
        if not answer:
            return self._lost(f"failed: {self.name} ended without an answer")
        return Outcome.from_json(answer)

    def _lost(self, reason: str) -> Outcome:
        """The outcome of a child that could say nothing itself."""
        keep_note(self.store_uri, site=self.site, step=self.name, ticket=self.ticket, reason=reason)
        return Outcome(reason=reason)

    def _answer(self, work: Callable[[], Outcome], writer: int, suspicion: Suspicion, parent: int) -> None:
        """The child: works, answers through the pipe, and never returns into the caller's stack."""
        try:
            end_with(parent)
            leave_no_core()
            suspicion.watch()
            try:
                answer = work().to_json()
            except BaseException as error:
                reason = disclosed_reason(error)
                keep_note(
                    self.store_uri,
                    site=self.site,
                    step=self.name,
                    ticket=self.ticket,
                    reason=reason,
                    error=error,
                )
                answer = Outcome(reason=reason).to_json()
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(answer)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(0)


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
