"""One method in a process of its own, which lives as long as its case and is asked for round after round.

A step of a federation is a process that holds its own party's data. Here too no method pays for the
memory of another: what it forks, allocates and has in its caches is its own. It is spawned, so that
it inherits nothing, and asked for one round at a time, so that methods still take turns.
"""

from __future__ import annotations

import gc
import io
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.sealing_methods import METHODS, Method


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of one round: one client, the aggregator, whoever opens."""

    client: float
    aggregator: float
    opening: float

    @property
    def total(self) -> float:
        """The whole path: one client after the others, then aggregator, then opening."""
        return self.client + self.aggregator + self.opening


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of a method.

    Attributes:
        times: of its parties.
        relative_error: largest distance from the exact mean over the mean's largest magnitude.
    """

    times: Times
    relative_error: float


class MethodProcess:
    """A method with the sealed updates of all sites, in a process of its own.

    Args:
        name: of the method, as in `METHODS`.
        values: of each update.
        sites: how many there are.
    """

    def __init__(self, name: str, values: int, sites: int) -> None:
        spawned = multiprocessing.get_context("spawn")
        self._process = ProcessPoolExecutor(1, mp_context=spawned)
        self.sealed_bytes: int = self._process.submit(_prepare, name, values, sites).result()

    def round(self) -> Round:
        """Has one round done; whatever goes wrong there is raised here."""
        return self._process.submit(_round).result()

    def close(self) -> None:
        """Ends the process."""
        self._process.shutdown()


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    method: Method
    update: NDArray[np.float64]
    exact: NDArray[np.float64]
    blobs: list[io.BytesIO]
    sink: io.BytesIO
    total: io.BytesIO


_prepared: list[_Prepared] = []
"""What the process that was spawned works on: one entry."""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that the work takes, and what it returns."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _prepare(name: str, values: int, sites: int) -> int:
    """Draws the updates, the same for every method, and seals them; returns the bytes of one."""
    generator = np.random.default_rng(values + sites)
    weights = generator.integers(200, 501, sites)
    method = METHODS[name](weights, values)
    first, exact, blobs = np.empty(0), np.zeros(values), []
    for site in range(sites):
        update = generator.normal(0, 0.02, values)
        exact += update * (float(weights[site]) / float(weights.sum()))
        sink = io.BytesIO()
        method.client(site, update, sink)
        blobs.append(sink)
        first = first if site else update
    size = len(blobs[0].getvalue())
    sink, total = (_with_room(size) for _ in range(2))
    _prepared.append(_Prepared(method=method, update=first, exact=exact, blobs=blobs, sink=sink, total=total))
    return size


def _with_room(size: int) -> io.BytesIO:
    """A store that has the room already: that of a new one is the system's work and not a method's."""
    store = io.BytesIO()
    store.write(bytes(size))
    return store


def _round() -> Round:
    case = _prepared[0]
    gc.collect()
    for store in (*case.blobs, case.sink, case.total):
        store.seek(0)
    client, _ = timed(lambda: case.method.client(0, case.update, case.sink, again=True))
    aggregator, _ = timed(lambda: case.method.aggregator(case.blobs, case.total))
    # As long as what was added, whose length need not be that of an update.
    case.total.truncate()
    for store in (*case.blobs, case.total):
        store.seek(0)
    opening, opened = timed(lambda: case.method.opening(case.blobs, case.total))
    error = np.abs(opened - case.exact).max() / np.abs(case.exact).max()
    times = Times(client=client, aggregator=aggregator, opening=opening)
    return Round(times=times, relative_error=float(error))
