"""How long the dispatcher waits for what, and the clock it waits by."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from components.execution.jobs.order import START_GRACE_S


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds, each above 0.

    Attributes:
        start_grace_s: a Job may wait for its node and image; the Job's own deadline is this much longer.
        image_s: an image may fail to be pulled: registries have short failures too.
        late_s: past the Job's own deadline, until the dispatcher ends it itself.
        unreachable_s: the API server may be silent. Longer than the upgrade of a control plane.
        denied_s: a Job that is under way is watched for although identity or rights were refused:
            tokens are rotated, and an API server that has just started knows no rights yet.
        gone_s: a deleted Job may take to be gone.
        cancel_s: the Job may take to be found and then to be deleted after SIGTERM; both within the 30 s
            that Kubernetes gives.
        watch_s: one watch lasts. Short enough that a connection which died without a word is noticed.
        look_s: between looks at the pods of a Job that has not started.
        connect_s: a connection may take.
        read_s: an answer may take.
        first_pause_s: before a request is sent again; it doubles each time.
        longest_pause_s: what it grows to.
    """

    start_grace_s: float = START_GRACE_S
    image_s: float = 120.0
    late_s: float = 60.0
    unreachable_s: float = 600.0
    denied_s: float = 60.0
    gone_s: float = 120.0
    cancel_s: float = 12.0
    watch_s: float = 60.0
    look_s: float = 5.0
    connect_s: float = 10.0
    read_s: float = 30.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 15.0

    def for_cancelling(self) -> Patience:
        """The patience of a process that has been told to end."""
        return replace(
            self,
            unreachable_s=self.cancel_s,
            denied_s=self.cancel_s,
            connect_s=min(self.connect_s, self.cancel_s / 4),
            read_s=min(self.read_s, self.cancel_s / 4),
        )


PATIENCE = Patience()


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Time as the dispatcher knows it.

    Attributes:
        now: seconds that never go back.
        sleep: waits for so many seconds.
        chance: a number from 0 up to 1, for pauses that differ between dispatchers.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    # Pauses need no secrecy.
    chance: Callable[[], float] = random.random


CLOCK = Clock()


class Pauses:
    """Growing pauses, so that many dispatchers do not return to a struggling API server together."""

    def __init__(self, patience: Patience, clock: Clock) -> None:
        self._next_s = patience.first_pause_s
        self._longest_s = patience.longest_pause_s
        self._clock = clock

    def pause(self, *, at_least_s: float = 0.0, until: float = float("inf")) -> None:
        """Waits between half the present pause and all of it.

        Args:
            at_least_s: what the API server asked for; followed up to the longest pause.
            until: time of the clock that is not slept past.
        """
        wait_s = self._next_s * (0.5 + self._clock.chance() / 2)
        wait_s = max(wait_s, min(at_least_s, self._longest_s))
        self._clock.sleep(max(0.0, min(wait_s, until - self._clock.now())))
        self._next_s = min(self._next_s * 2, self._longest_s)
