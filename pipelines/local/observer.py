"""Reads off Kubeflow's local runner what its tasks are doing, from what it logs and prints.

`kfp.local` has no callbacks. It logs one record on the root logger when a task starts and another when it
ends, and prints every line of a task's output in the thread that logged them.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

from pipelines.local.events import Status, StepEvent
from pipelines.local.tasks import Task

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTS = re.compile(r"Executing task '(.+)'$")
_FAILS = re.compile(r"Task '(.+)' finished with status FAILURE$")
# A task that exits with 0 has still to show the outputs it declares: success is the record about them.
_SUCCEEDS = re.compile(r"Task '([^']+)' (?:outputs:|has no outputs)")
_PROGRESS = re.compile(r"\s*crosscloud-progress: (.+)")
_ERROR = re.compile(r"\s*crosscloud-error: (\w+): ?(.*)")


@dataclass(frozen=True, kw_only=True)
class StepFailure:
    """A failed task with the error it named last, both parts empty if it named none."""

    title: str
    error_type: str
    message: str


@dataclass(kw_only=True)
class _Running:
    task: Task
    began: float
    error_type: str = ""
    message: str = ""


class RunObserver(logging.Filter):
    """Follows one run: a filter of the root logger, and the reader of every line that is printed.

    It is a filter because kfp replaces the root logger's handlers while a task runs.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        on_event: Callable[[StepEvent], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        self._tasks = tasks
        self._on_event = on_event
        self._clock = clock
        self._running: dict[int, _Running] = {}
        self._failures: dict[str, StepFailure] = {}
        self.seconds: dict[str, float] = {}

    @property
    def failure(self) -> StepFailure | None:
        """The first task that failed for good; one that succeeded when it was retried does not count."""
        return next(iter(self._failures.values()), None)

    def filter(self, record: logging.LogRecord) -> bool:
        """Notes what a record says about a task; lets every record pass."""
        text = _COLOUR.sub("", record.getMessage())
        if (starts := _STARTS.match(text)) and starts[1] in self._tasks:
            running = _Running(task=self._tasks[starts[1]], began=self._clock())
            self._running[threading.get_ident()] = running
            self._tell(running, "started")
        elif _FAILS.match(text):
            self._end("failed")
        elif _SUCCEEDS.match(text):
            self._end("succeeded")
        return True

    def read(self, line: str) -> None:
        """Notes a line that the task of this thread printed."""
        running = self._running.get(threading.get_ident())
        if running is None:
            return
        if progress := _PROGRESS.match(line):
            self._tell(running, "progress", progress[1].rstrip())
        elif error := _ERROR.match(line):
            running.error_type, running.message = error[1], error[2].rstrip()

    def abort(self) -> None:
        """Tells that the tasks which still run have failed: the run has ended without a word about them."""
        for thread in list(self._running):
            self._end("failed", thread)

    def _end(self, status: Status, thread: int | None = None) -> None:
        running = self._running.pop(threading.get_ident() if thread is None else thread, None)
        if running is None:
            return
        title = running.task.title
        self.seconds.pop(title, None)
        self.seconds[title] = self._clock() - running.began
        self._failures.pop(title, None)
        if status == "failed":
            self._failures[title] = StepFailure(
                title=title, error_type=running.error_type, message=running.message
            )
        self._tell(running, status)

    def _tell(self, running: _Running, status: Status, message: str = "") -> None:
        seconds = None if status == "started" else self._clock() - running.began
        task = running.task
        self._on_event(
            StepEvent(task=task.name, title=task.title, status=status, seconds=seconds, message=message)
        )


class LineTap(io.TextIOBase):
    """A text stream that passes all it is given on, and shows each thread's lines as they become whole."""

    def __init__(self, stream: TextIO, on_line: Callable[[str], None]) -> None:
        super().__init__()
        self._stream = stream
        self._on_line = on_line
        self._unfinished: dict[int, str] = {}

    def write(self, text: str) -> int:
        """Passes `text` on and returns its length in characters."""
        self._stream.write(text)
        thread = threading.get_ident()
        *lines, rest = (self._unfinished.pop(thread, "") + text).split("\n")
        if rest:
            self._unfinished[thread] = rest
        for line in lines:
            self._on_line(line)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream behind."""
        self._stream.flush()

    def writable(self) -> bool:
        """Always true."""
        return True

    def fileno(self) -> int:
        """The descriptor behind."""
        return self._stream.fileno()
