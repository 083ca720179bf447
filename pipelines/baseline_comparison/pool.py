"""Measures many configurations at once: one process each, as many at a time as there are cores to use.

Every outcome is written as soon as it is there, by this process alone. Whatever ends it, a SIGKILL included,
ends the workers too, and the next start goes on with what is not written yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from components.errors import UsageError
from components.evaluation.measurement_records.kept_outcomes import KeptOutcomes, Record
from pipelines.baseline_comparison.worker import FORKS
from pipelines.local.process_group import end_group

Configuration = dict[str, Any]
MEASURE: Final = "components.evaluation.method_measurement.measurement:measure"
"""What is called with a configuration, the corpus and the records of earlier stages."""
WARM_MODULES: Final = ("torch",)
"""What most measurements import, so that forks find it there."""
_PACKAGES = Path(__file__).resolve().parents[2]
_WORKER = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from pipelines.baseline_comparison.worker import main; main()"
)
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What happened to one configuration.

    Attributes:
        configuration: that was to be measured.
        record: of its outcome; None where it failed.
        error: why it failed, in one line; empty where it did not.
    """

    configuration: Configuration
    record: Record | None = None
    error: str = ""


@dataclass(eq=False, kw_only=True)
class _Worker:
    """A worker, whether it is ready, what it is at, and the beginning of an answer that has come so far."""

    process: subprocess.Popen[bytes]
    is_ready: bool = False
    at: Configuration | None = None
    content: bytes = b""

    def ask(self, configuration: Configuration) -> None:
        self.at = configuration
        self.tell({"configuration": configuration})

    def tell(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None  # noqa: S101  (it was started with pipes)
        # One that has ended meanwhile is noticed where its answer is waited for.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    @property
    def output(self) -> int:
        assert self.process.stdout is not None  # noqa: S101  (it was started with pipes)
        return self.process.stdout.fileno()


class Pool:
    """Workers that measure on one corpus. As a context manager it ends them, however the block ends."""

    def __init__(
        self,
        *,
        corpus: Path,
        kept: KeptOutcomes,
        cores: int,
        log: Path,
        measure: str = MEASURE,
        modules: Sequence[str] = WARM_MODULES,
    ) -> None:
        """Starts nothing yet.

        Args:
            corpus: file that every worker reads once.
            kept: where outcomes are written.
            cores: how many configurations are measured at once.
            log: file to which workers append what they print.
            measure: `module:function` that measures.
            modules: that workers import before they fork.
        """
        self._terms = {"corpus": str(corpus), "measure": measure, "modules": list(modules)}
        self._kept, self._cores, self._log = kept, cores, log
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        """Is ready to measure."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends all workers and what they have started."""
        for worker in list(self._workers):
            self._remove(worker)

    def measure_all(
        self,
        configurations: Sequence[Configuration],
        earlier: Sequence[Record],
        *,
        on_finished: Callable[[Finished], None],
    ) -> None:
        """Measures configurations in their order and writes what comes of them.

        Args:
            configurations: that are not measured yet.
            earlier: records of the stages before.
            on_finished: is called in this thread with each as it ends.

        Raises:
            StoreError: an outcome cannot be written.
            UsageError: what measures cannot even start.
        """
        waiting = deque(configurations)
        with selectors.DefaultSelector() as selector:
            for worker in list(self._workers):
                worker.tell({"earlier": list(earlier)})
                self._next(worker, waiting, selector)
            while len(self._workers) < self._cores and waiting:
                self._next(self._start(earlier), waiting, selector)
            while selector.get_map():
                for key, _ in selector.select():
                    finished = self._read(key.data)
                    if finished is None:
                        continue
                    selector.unregister(key.fd)
                    on_finished(finished)
                    if key.data in self._workers:
                        self._next(key.data, waiting, selector)
                    elif waiting:
                        self._next(self._start(earlier), waiting, selector)

    def _next(self, worker: _Worker, waiting: deque[Configuration], selector: selectors.BaseSelector) -> None:
        if waiting:
            worker.ask(waiting.popleft())
            selector.register(worker.output, selectors.EVENT_READ, worker)

    def _read(self, worker: _Worker) -> Finished | None:
        """What a worker has to say of its configuration, once that is complete."""
        part = os.read(worker.output, 1 << 20)
        *lines, worker.content = (worker.content + part).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "ready" not in told:
                return self._concluded(worker, told)
            worker.is_ready = True
        if part:
            return None
        self._remove(worker)
        if not worker.is_ready:
            raise UsageError(f"what measures cannot start: {_last_line(self._log)} (all of it: {self._log})")
        return self._concluded(worker, {"error": f"the process that measures ended; see {self._log}"})

    def _concluded(self, worker: _Worker, told: Mapping[str, Any]) -> Finished:
        configuration, worker.at = worker.at, None
        assert configuration is not None  # noqa: S101  (an idle worker is not listened to)
        if not FORKS and worker in self._workers:
            self._remove(worker)
        if "error" in told:
            return Finished(configuration=configuration, error=str(told["error"]))
        record = self._kept.keep(configuration, told["outcome"], seconds=told["seconds"])
        return Finished(configuration=configuration, record=record)

    def _start(self, earlier: Sequence[Record]) -> _Worker:
        with self._log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  (our own command)
                [sys.executable, "-P", "-c", _WORKER, str(_PACKAGES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **_ONE_THREAD},
                start_new_session=True,
            )
        worker = _Worker(process=process)
        self._workers.append(worker)
        worker.tell(self._terms)
        worker.tell({"earlier": list(earlier)})
        return worker

    def _remove(self, worker: _Worker) -> None:
        """Ends a worker and what it has started."""
        self._workers.remove(worker)
        end_group(worker.process.pid)
        worker.process.wait()
        for stream in (worker.process.stdin, worker.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
