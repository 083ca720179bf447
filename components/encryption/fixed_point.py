"""Fixed point: an update as integers whose sums cannot wrap.

A site seals ``x = rint(n * clip(update) * scale)`` and its number of examples n, the sum opens to
sum(x) and sum(n). The scale is the largest at which no site can pass its part of the range of sums,
so nothing saturates: there is nothing that depends on the data to count or to report.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError, CiphertextError, UsageError

BLOCK_VALUES: Final = 2**15
"""Values handled at once: they stay in the processor's cache."""
SMALLEST_BOUND: Final = 2**10
"""Below it the largest coordinate of an update would keep less than ten bits."""
_SAFE_SQUARES: Final = (1e-120, 1e120)
"""Largest magnitudes whose squares float64 adds without overflow, and loses nothing of weight below."""


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """How updates of one charter become integers.

    Attributes:
        sites: K, sites of the charter, from 2: every one of them may be in the sum.
        clipping_norm: C, largest L2 norm of an update, above 0.
        largest_value: M, largest magnitude of one coordinate of an update, 0 < M <= C.
        max_examples: most examples that a site may weight its update with, from 1.
        largest_sum: largest magnitude that a coordinate of a sum may have, from 2^11 to 2^53.

    Raises:
        UsageError: A value breaks its rule, or together they leave too few bits.
    """

    sites: int
    clipping_norm: float
    largest_value: float
    max_examples: int
    largest_sum: int

    def __post_init__(self) -> None:
        self._require_values()
        if self.max_examples >= (self.bound + 1) ** 2:
            raise UsageError(
                f"max_examples is {self.max_examples}: two digits of {self.sites} sites hold at most "
                f"{(self.bound + 1) ** 2 - 1}, lower it"
            )
        if self.sites * self.max_examples > 2**53:
            raise UsageError(
                f"max_examples is {self.max_examples}: {self.sites} sites may have at most 2^53 examples "
                "in all to be counted exactly, lower it"
            )
        weighted = self.sites * self.max_examples * self.largest_value
        if not (math.isfinite(self.bound / self.largest_value) and math.isfinite(weighted)):
            raise UsageError(
                f"largest_value is {self.largest_value:g}: steps or sums of {self.max_examples} examples "
                "leave the range of float64, choose one nearer to 1"
            )

    def _require_values(self) -> None:
        most = self.largest_sum // SMALLEST_BOUND
        if not 2 <= self.sites <= most:
            raise UsageError(
                f"sites must be from 2 to {most} where sums are at most {self.largest_sum}, so that a sum is "
                f"no site's own and each has {SMALLEST_BOUND} steps, got {self.sites}: split the federation"
            )
        if not 0 < self.clipping_norm < math.inf:
            raise UsageError(
                f"clipping_norm must be above 0 and finite, got {self.clipping_norm}: correct the charter"
            )
        if not 0 < self.largest_value <= self.clipping_norm:
            raise UsageError(
                f"largest_value must be above 0 and at most clipping_norm, {self.clipping_norm}, "
                f"got {self.largest_value}: no coordinate is larger than the norm"
            )
        if self.max_examples < 1:
            raise UsageError(f"max_examples must be at least 1, got {self.max_examples}: correct the charter")

    @property
    def bound(self) -> int:
        """Largest magnitude of an integer that one site seals."""
        return self.largest_sum // self.sites

    @property
    def scale(self) -> float:
        """Integer steps in one unit of ``n * update``."""
        return self.bound / (self.max_examples * self.largest_value)

    def length(self, values: int) -> int:
        """Length of the sealed vector of an update of `values` coordinates: two more, for the count."""
        return values + 2

    def absolute_error(self, members: int) -> float:
        """Largest error of a coordinate of the decoded sum of `members` sites against the clipped updates'.

        Half a step of rounding a site. What float64 itself rounds comes on top: a few hundredths of a step.
        """
        return members * 0.5 / self.scale

    def clip(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale an update by ``min(1, C / L2 norm, M / largest magnitude)``: its direction is kept.

        Args:
            values: Shape (d,), finite; not changed.

        Returns:
            A new array of shape (d,). No magnitude is above M; the L2 norm is at most C up to the rounding
            of float64 (1e-12 of it).

        Raises:
            BadDataError: A value is not finite.
        """
        return values * self._factor(values)

    def require_count(self, num_examples: int) -> None:
        """Pass a number of examples that the charter admits.

        Raises:
            BadDataError: It is not from 1 to `max_examples`.
        """
        if not 1 <= num_examples <= self.max_examples:
            raise BadDataError(
                f"the update has {num_examples} examples, allowed are 1 to {self.max_examples}: train on "
                "fewer rows, or agree on a charter with more max_examples",
                disclosed=f"the number of examples is not from 1 to {self.max_examples}, the charter's limit",
            )

    def encode(self, values: NDArray[np.float64], num_examples: int) -> NDArray[np.int32] | NDArray[np.int64]:
        """Return ``rint(n * clip(values) * scale)`` and n behind it: two digits in base bound + 1, low first.

        Works in blocks: beside what it returns it takes less than a megabyte.

        Args:
            values: Shape (d,), finite; not changed.
            num_examples: n, from 1 to `max_examples`.

        Returns:
            Shape (d + 2,), magnitudes up to `bound`; int32 where sums fit it, int64 otherwise.

        Raises:
            BadDataError: n is out of its range, or a value is not finite.
        """
        self.require_count(num_examples)
        factor, weight = self._factor(values), num_examples * self.scale
        length = self.length(values.size)
        fits = self.largest_sum <= np.iinfo(np.int32).max
        encoded = np.empty(length, np.int32) if fits else np.empty(length, np.int64)
        scratch = np.empty(min(BLOCK_VALUES, values.size))
        for block in _blocks(values.size):
            steps = np.multiply(values[block], factor, out=scratch[: block.stop - block.start])
            steps *= weight
            encoded[block] = np.rint(steps, out=steps)
        high, low = divmod(num_examples, self.bound + 1)
        encoded[-2:] = low, high
        return encoded

    def decode(self, sums: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Return ``[sum of n * update, sum of n]`` from the sum of what sites encoded.

        Args:
            sums: Shape (d + 2,); not changed.

        Returns:
            Shape (d + 1,); the first d within `absolute_error`, the last exact.

        Raises:
            CiphertextError: The count is none that sites of this charter can have.
        """
        if sums.ndim != 1 or sums.size < 2:
            raise ValueError(f"a sum has one dimension and a count of two digits, got shape {sums.shape}")
        low, high = (int(digit) for digit in sums[-2:])
        num_examples = low + (self.bound + 1) * high
        if not 1 <= num_examples <= self.sites * self.max_examples:
            # Names no value: a key holder that explains its refusals can be asked questions.
            raise CiphertextError("this sum does not open to a sum of updates: refused")
        decoded = np.empty(sums.size - 1)
        for block in _blocks(decoded.size - 1):
            part = decoded[block]
            part[:] = sums[block]
            part /= self.scale
        decoded[-1] = num_examples
        return decoded

    def _factor(self, values: NDArray[np.float64]) -> float:
        largest, squares = _measured(values)
        if largest == 0:
            return 1.0
        if not _SAFE_SQUARES[0] < largest < _SAFE_SQUARES[1]:
            # Relative to the largest value: the square of a finite value need not be finite, or may be zero.
            relative = math.sqrt(sum(_squares(values, largest)))
        else:
            relative = math.sqrt(squares) / largest
        factor = min(self.clipping_norm / relative, self.largest_value) / largest
        # One step down, so that rounding never lifts a coordinate above M.
        return 1.0 if factor >= 1 else math.nextafter(factor, 0.0)


def _measured(values: NDArray[np.float64]) -> tuple[float, float]:
    """Largest magnitude and sum of squares in one pass; the latter is of use for magnitudes in _SAFE_SQUARES.

    Raises:
        BadDataError: A value is not finite.
        ValueError: Not one vector of float64.
    """
    if values.ndim != 1 or values.dtype != np.float64:
        raise ValueError(f"an update is one vector of float64, got {values.dtype} {values.shape}")
    largest, squares = 0.0, 0.0
    scratch = np.empty(min(BLOCK_VALUES, values.size))
    for block in _blocks(values.size):
        part = values[block]
        # Both carry a NaN on.
        high, low = float(part.max()), float(part.min())
        if not (math.isfinite(high) and math.isfinite(low)):
            raise BadDataError(
                "the update holds a value that is not finite: training diverged, lower the learning rate",
                disclosed="the update is not finite",
            )
        largest = max(largest, high, -low)
        if largest < _SAFE_SQUARES[1]:
            # Not a dot product: BLAS sums in an order that depends on processor and threads, and a site must
            # come to the same integers wherever it computes them again.
            squares += float(np.multiply(part, part, out=scratch[: part.size]).sum())
    return largest, squares


def _squares(values: NDArray[np.float64], unit: float) -> Iterator[float]:
    scratch = np.empty(min(BLOCK_VALUES, values.size))
    for block in _blocks(values.size):
        scaled = np.divide(values[block], unit, out=scratch[: block.stop - block.start])
        yield float(np.multiply(scaled, scaled, out=scaled).sum())


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK_VALUES, size)) for start in range(0, size, BLOCK_VALUES))
