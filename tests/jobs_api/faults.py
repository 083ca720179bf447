"""What goes wrong on request, and a log of what was asked."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from tests.jobs_api.answers import RefusedError


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How one request fails.

    Attributes:
        how: `refused` with `error`; `redirected` to `location`; `dropped` after `seconds`, before anything is
            done; `delayed` by `seconds`; `unanswered`: done, but the connection breaks before the answer;
            `garbled`: 200 with `body`; `cut`: a watch that breaks within a line; `expired`: a watch
            that tells `error`.
        error: the answer.
        location: an address.
        body: what stands in place of JSON.
        seconds: of silence.
    """

    how: Literal["refused", "redirected", "dropped", "delayed", "unanswered", "garbled", "cut", "expired"]
    error: RefusedError | None = None
    location: str = ""
    body: bytes = b""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it came."""

    verb: str
    resource: str
    namespace: str
    name: str
    query: dict[str, str]
    token: str


@dataclass
class Faults:
    """Faults to come, by verb and resource (`list jobs.batch`, `watch jobs.batch`); each is used up once."""

    requests: list[Request] = field(default_factory=list)
    _coming: dict[str, deque[Fault]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, request: str, fault: Fault, times: int = 1) -> None:
        """The next `times` requests of that kind fail."""
        with self._lock:
            self._coming.setdefault(request, deque()).extend([fault] * times)

    def refuse(
        self,
        request: str,
        code: int,
        message: str = "as asked",
        *,
        times: int = 1,
        retry_after_s: float = 0.0,
    ) -> None:
        """The next `times` requests of that kind are answered with an error."""
        error = RefusedError(code, message, retry_after_s=retry_after_s)
        self.add(request, Fault(how="refused", error=error), times)

    def drop(self, request: str, *, times: int = 1, seconds: float = 0.0) -> None:
        """The next `times` requests of that kind get no answer: the connection breaks, after so long."""
        self.add(request, Fault(how="dropped", seconds=seconds), times)

    def delay(self, request: str, seconds: float, times: int = 1) -> None:
        """The next `times` requests of that kind are done after so long, even if their sender has gone."""
        self.add(request, Fault(how="delayed", seconds=seconds), times)

    def lose_answers(self, request: str, times: int = 1) -> None:
        """The next `times` requests of that kind are done, but nothing of it is heard."""
        self.add(request, Fault(how="unanswered"), times)

    def garble(self, request: str, body: bytes = b"<html>a proxy</html>", times: int = 1) -> None:
        """The next `times` requests of that kind are answered by something that is no API server."""
        self.add(request, Fault(how="garbled", body=body), times)

    def redirect(self, request: str, location: str, times: int = 1) -> None:
        """The next `times` requests of that kind are sent elsewhere."""
        self.add(request, Fault(how="redirected", location=location), times)

    def cut_watches(self, times: int = 1) -> None:
        """The next `times` watches of Jobs break in the middle of the first event that they tell."""
        self.add("watch jobs.batch", Fault(how="cut"), times)

    def expire_watches(self, times: int = 1) -> None:
        """The next `times` watches of Jobs tell that their version is no longer known."""
        error = RefusedError(410, "too old resource version: 1 (2)")
        self.add("watch jobs.batch", Fault(how="expired", error=error), times)

    def note(self, request: Request) -> Fault | None:
        """Logs a request and gives the fault that it meets."""
        with self._lock:
            self.requests.append(request)
            waiting = self._coming.get(f"{request.verb} {request.resource}")
            return waiting.popleft() if waiting else None

    def count(self, request: str) -> int:
        """How often a kind of request came."""
        with self._lock:
            return sum(f"{each.verb} {each.resource}" == request for each in self.requests)
