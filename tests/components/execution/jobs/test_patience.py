from __future__ import annotations

from dataclasses import fields

import pytest

from components.execution.jobs.order import START_GRACE_S
from components.execution.jobs.patience import PATIENCE, Clock, Patience, Pauses


class StandingClock:
    """Time that passes in sleep only."""

    def __init__(self, chance: float) -> None:
        self.time = 100.0
        self.slept: list[float] = []
        self.clock = Clock(now=lambda: self.time, sleep=self._sleep, chance=lambda: chance)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@pytest.mark.parametrize(("chance", "part"), [(0.0, 0.5), (1.0, 1.0), (0.5, 0.75)])
def test_pauses_double_up_to_the_longest_with_half_of_each_left_to_chance(chance: float, part: float) -> None:
    standing = StandingClock(chance)
    pauses = Pauses(Patience(first_pause_s=0.5, longest_pause_s=15.0), standing.clock)
    for _ in range(8):
        pauses.pause()
    assert standing.slept == [part * full for full in (0.5, 1, 2, 4, 8, 15, 15, 15)]


def test_a_server_may_ask_for_a_longer_pause_within_bounds() -> None:
    standing = StandingClock(0.0)
    pauses = Pauses(Patience(first_pause_s=0.5, longest_pause_s=15.0), standing.clock)
    pauses.pause(at_least_s=7.0)
    pauses.pause(at_least_s=3600.0)
    pauses.pause(at_least_s=float("inf"))
    assert standing.slept == [7.0, 15.0, 15.0]


def test_no_pause_goes_past_its_limit() -> None:
    standing = StandingClock(1.0)
    pauses = Pauses(Patience(first_pause_s=8.0, longest_pause_s=15.0), standing.clock)
    pauses.pause(until=103.0)
    pauses.pause(until=103.0)
    assert standing.slept == [3.0, 0.0]


def test_waiting_times_go_together() -> None:
    assert all(getattr(PATIENCE, field.name) > 0 for field in fields(PATIENCE))
    assert PATIENCE.start_grace_s == START_GRACE_S
    cancelling = PATIENCE.for_cancelling()
    # Twice, for finding and for deleting, within the 30 seconds between SIGTERM and SIGKILL.
    assert 2 * cancelling.unreachable_s < 30
    assert cancelling.connect_s + cancelling.read_s < cancelling.unreachable_s
