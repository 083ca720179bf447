"""A process that measures configurations, each in a fork of its own.

It imports what computes and reads the corpus once; a fork shares both, starts in milliseconds, and takes with
it whatever it has allocated. Requests and answers are lines of JSON on the standard input and output. When
the input closes, whoever asked is gone, and this process ends with its whole group.

Where forks are not safe after large imports (anywhere but on Linux) it measures one configuration itself and
ends; whoever asks starts another.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from components.errors import CrosscloudError
from components.evaluation.rehearsal.corpus import Corpus
from components.execution.forking import fork
from pipelines.local.process_group import end_group

FORKS: Final = sys.platform == "linux"
Measure = Callable[[dict[str, Any], Corpus, Sequence[Mapping[str, Any]]], dict[str, Any]]
_LONGEST_READ: Final = 1 << 20


def main() -> None:
    """Serves requests until the input closes; the first line says what all of them have in common."""
    answers = os.dup(sys.stdout.fileno())
    # Native libraries print to descriptor 1 by themselves: that goes to the log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines = _Lines(sys.stdin.fileno())
    terms = json.loads(next(lines))
    measure = _named(terms["measure"])
    for module in terms["modules"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    corpus = Corpus.read(Path(terms["corpus"]))
    gc.collect()
    gc.freeze()
    _write(answers, _line({"ready": True}))
    earlier: list[dict[str, Any]] = []
    for line in lines:
        request = json.loads(line)
        if "earlier" in request:
            earlier = request["earlier"]
            continue

        def work(configuration: dict[str, Any] = request["configuration"]) -> bytes:
            return _answer(measure, configuration, corpus, earlier)  # noqa: B023  (called within this turn)

        _write(answers, _in_fork(work, lines, answers) if FORKS else work())
        if not FORKS:
            return


def _named(path: str) -> Measure:
    module, _, name = path.partition(":")
    found: Measure = getattr(importlib.import_module(module), name)
    return found


def _answer(
    measure: Measure, configuration: dict[str, Any], corpus: Corpus, earlier: Sequence[Mapping[str, Any]]
) -> bytes:
    """What came of a configuration, as one line: its outcome, or what went wrong in one line."""
    began = time.perf_counter()
    try:
        outcome = measure(configuration, corpus, earlier)
        told = {"outcome": outcome, "seconds": time.perf_counter() - began}
        return _line(told)
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        text = " ".join(str(error).split())
        kind = "" if isinstance(error, CrosscloudError) else f"{type(error).__name__}: "
        return _line({"error": f"{kind}{text}"})


def _in_fork(work: Callable[[], bytes], lines: _Lines, answers: int) -> bytes:
    """Runs `work` in a fork and returns what it returned there."""
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        status = 1
        try:
            # Whoever asked is to see that this process is gone, even while the fork lives on.
            os.close(answers)
            os.close(reading)
            _write(writing, work())
            status = 0
        finally:
            os._exit(status)  # nothing of the parent's is this process's to tear down
    os.close(writing)
    content = b""
    while part := lines.read_while_waiting(reading):
        content += part
    os.close(reading)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0 and content.endswith(b"\n"):
        return content
    how = f"by signal {-code}" if code < 0 else f"with status {code}"
    return _line({"error": f"its process ended {how}: the machine may be short of memory"})


class _Lines:
    """Lines that come through a descriptor; the group ends when it closes, whatever is under way."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._content = b""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while b"\n" not in self._content:
            self._fill()
        line, _, self._content = self._content.partition(b"\n")
        return line

    def read_while_waiting(self, other: int) -> bytes:
        """The next bytes of another descriptor, empty at its end; requests meanwhile are kept."""
        while True:
            readable, _, _ = select.select([other, self._descriptor], [], [])
            if self._descriptor in readable:
                self._fill()
            if other in readable:
                return os.read(other, _LONGEST_READ)

    def _fill(self) -> None:
        part = os.read(self._descriptor, _LONGEST_READ)
        if not part:
            end_group(os.getpgrp())
            os._exit(0)
        self._content += part


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


if __name__ == "__main__":
    main()
