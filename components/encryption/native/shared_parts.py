"""Memory that a process and its forked child share: parts on their way in, results on their way out."""

from __future__ import annotations

import mmap
from typing import Final

BATCHES: Final = 4
"""While the child works on one, the next wait for it: on a busy machine who waits is woken late."""


class SharedParts:
    """Room for four batches of `at_once` parts, and for their results.

    Args:
        part_bytes: Size of a part.
        result_bytes: Size of a result.
        at_once: Parts in a batch, at most 255.
    """

    def __init__(self, *, part_bytes: int, result_bytes: int, at_once: int) -> None:
        self.at_once = at_once
        self._part_bytes, self._result_bytes = part_bytes, result_bytes
        self._memory = memoryview(mmap.mmap(-1, BATCHES * at_once * (part_bytes + result_bytes)))

    def part(self, batch: int, number: int) -> memoryview:
        """Where one part lies."""
        first = (batch * self.at_once + number) * self._part_bytes
        return self._memory[first : first + self._part_bytes]

    def result(self, batch: int, number: int) -> memoryview:
        """Where its result lies. The child may write there at any time: copy it, then look at it."""
        before = BATCHES * self.at_once * self._part_bytes
        first = before + (batch * self.at_once + number) * self._result_bytes
        return self._memory[first : first + self._result_bytes]
