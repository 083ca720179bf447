"""What came is told until it is heeded, in the main thread; `test_dispatch` ends whole processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from components.execution.jobs.patience import Clock
from components.execution.jobs.signals import Signals

CLOCK = Clock(now=lambda: 7.0, sleep=lambda _: None)


def lost() -> None:
    """Ctrl-C whose exception something else puts its own in the place of."""
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("look", [lambda clock: clock.now(), lambda clock: clock.sleep(1.0)])
def test_every_look_at_the_clock_tells_it_until_it_is_heeded(look: Callable[[Clock], object]) -> None:
    signals = Signals()
    clock = signals.heeding(CLOCK)
    before = signal.getsignal(signal.SIGINT)
    with signals.raised():
        look(clock)
        lost()
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                look(clock)
        with pytest.raises(KeyboardInterrupt):
            signals.heed()
        with signals.undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            assert clock.now() == 7.0
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_leaves_signals_to_whoever_has_them() -> None:
    found: list[object] = []

    def look() -> None:
        signals = Signals()
        with signals.raised():
            found.append(signal.getsignal(signal.SIGTERM))
            with signals.undisturbed():
                found.append(signal.getsignal(signal.SIGINT))

    before = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == before
