"""What goes wrong on request, and a log of what was asked: the server's own state, for tests to read."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import grpc  # type: ignore[import-untyped]


class ServiceError(Exception):
    """An answer that is an error, as BigQuery writes it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


@dataclass
class Faults:
    """Faults to come; each is used up by one call."""

    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Every call, by the name of its method and its body or query."""
    job_seconds: float = 0.0
    """How long a job runs."""
    longest_wait_s: float = 10.0
    """How long a call for results waits for a job that runs."""
    storage_code: grpc.StatusCode | None = None
    """With what every call of the Storage Read API is turned away."""
    storage_method: str = ""
    """Which method alone; empty for all."""
    _rest: dict[str, deque[ServiceError]] = field(default_factory=dict)
    _jobs: deque[tuple[str, str]] = field(default_factory=deque)
    _breaks: deque[tuple[int, grpc.StatusCode, str]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, method: str, status: int, reason: str, message: str = "as asked", times: int = 1) -> None:
        """The next `times` calls of a REST method (`jobs.insert`) fail."""
        with self._lock:
            waiting = self._rest.setdefault(method, deque())
            waiting.extend(ServiceError(status, reason, message) for _ in range(times))

    def fail_jobs(self, reason: str, message: str = "as asked", times: int = 1) -> None:
        """The next `times` jobs are taken and fail."""
        with self._lock:
            self._jobs.extend([(reason, message)] * times)

    def break_streams(
        self, after_messages: int, code: grpc.StatusCode, *, detail: str = "as asked", times: int = 1
    ) -> None:
        """The next `times` ReadRows calls die after so many messages (0: before the first)."""
        with self._lock:
            self._breaks.extend([(after_messages, code, detail)] * times)

    def note(self, method: str, body: dict[str, Any]) -> None:
        """Logs a call, and raises the fault that waits for it."""
        with self._lock:
            self.requests.append((method, body))
            waiting = self._rest.get(method)
            if waiting:
                raise waiting.popleft()

    def next_job(self) -> tuple[str, str] | None:
        """The reason and message with which the next job fails."""
        with self._lock:
            return self._jobs.popleft() if self._jobs else None

    def next_break(self) -> tuple[int, grpc.StatusCode, str] | None:
        """How the next stream breaks off."""
        with self._lock:
            return self._breaks.popleft() if self._breaks else None

    def calls(self, method: str) -> list[dict[str, Any]]:
        """Bodies of all calls of a method."""
        with self._lock:
            return [body for name, body in self.requests if name == method]
