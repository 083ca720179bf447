"""SIGTERM and Ctrl-C while a Job is watched: raised wherever the main thread is, until they are heeded."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType
from typing import NoReturn

from components.execution.jobs.patience import Clock

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Terminated(BaseException):
    """SIGTERM came. No error: nothing that handles errors may hold it up."""


class Signals:
    """What came, which an exception alone does not keep.

    CPython runs a handler wherever it looks for signals, and code that is wording another error then puts
    that error in the place of the handler's: `int` does with the empty line that a broken connection leaves
    to `http.client`. Connections break just when a node is drained and its pods are told to end. So whoever
    looks at a clock of `heeding` is told again.

    Signals reach the main thread. In another one all this does nothing: they are left to whoever has them.
    """

    def __init__(self) -> None:
        self._came: type[BaseException] | None = None

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Within, SIGTERM is `Terminated` and Ctrl-C KeyboardInterrupt; afterwards they take effect."""
        if not _in_main_thread():
            yield
            return
        before = {signal.SIGTERM: signal.signal(signal.SIGTERM, self._terminate)}
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            before[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        except Terminated:
            signal.signal(signal.SIGTERM, before[signal.SIGTERM])
            os.kill(os.getpid(), signal.SIGTERM)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Within, another signal does not interrupt, and the one that came is heeded."""
        self._came = None
        if not _in_main_thread():
            yield
            return
        before = [signal.signal(number, signal.SIG_IGN) for number in _NUMBERS]
        try:
            yield
        finally:
            for number, handler in zip(_NUMBERS, before, strict=True):
                signal.signal(number, handler)

    def heed(self) -> None:
        """Raises again what came and was not heeded."""
        if self._came is not None:
            raise self._came

    def heeding(self, clock: Clock) -> Clock:
        """The same clock, at which whoever looks heeds what came."""

        def now() -> float:
            self.heed()
            return clock.now()

        def sleep(seconds: float) -> None:
            self.heed()
            clock.sleep(seconds)

        return replace(clock, now=now, sleep=sleep)

    def _terminate(self, number: int, frame: FrameType | None) -> NoReturn:
        # Once: a second one must not break off the cancelling.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._came = Terminated
        raise Terminated

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        self._came = KeyboardInterrupt
        raise KeyboardInterrupt


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
