"""What goes wrong on request, and a log of what was asked."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How one request fails.

    Attributes:
        status: of an answer that the API itself does not give; 0 for none.
        body: of that answer.
        location: where it redirects to.
        done: whether the request is carried out, and only its answer is lost.
        silence_s: how long nothing is said before.
    """

    status: int = 0
    body: bytes = b""
    kind: str = "application/json"
    location: str = ""
    done: bool = False
    silence_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it came: `POST /runs`, its token and its body."""

    what: str
    token: str
    query: dict[str, str]


@dataclass
class Faults:
    """Faults to come, by request; each is used up once. Hooks run once before, or after, a request."""

    requests: list[Request] = field(default_factory=list)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    after: dict[str, Callable[[], object]] = field(default_factory=dict)
    always: Fault | None = None
    _coming: dict[str, deque[Fault]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, fault: Fault, times: int = 1) -> None:
        with self._lock:
            self._coming.setdefault(what, deque()).extend([fault] * times)

    def note(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            waiting = self._coming.get(request.what)
            return waiting.popleft() if waiting else self.always

    def hook(self, hooks: dict[str, Callable[[], object]], what: str) -> None:
        with self._lock:
            found = hooks.pop(what, None)
        if found is not None:
            found()

    def count(self, what: str) -> int:
        with self._lock:
            return sum(each.what == what for each in self.requests)

    def changes(self) -> list[str]:
        """All requests that change something, in their order."""
        with self._lock:
            return [each.what for each in self.requests if not each.what.startswith("GET")]
