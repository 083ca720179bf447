"""Means over seeds and how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

CONFIDENCE: Final = 0.95
ROUNDING: Final = 1e-12  # differences of equal figures may miss 0 by this much


@dataclass(frozen=True, kw_only=True)
class Band:
    """A mean and its confidence band, mean ± t·s/√n with Student's t of n − 1 degrees of freedom.

    Attributes:
        mean: of the values.
        half_width: half of the band's width; None for a single value, which has no band.
        count: how many values.
    """

    mean: float
    half_width: float | None
    count: int

    @property
    def low(self) -> float:
        """Lower end; the mean itself where there is no band."""
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        """Upper end; the mean itself where there is no band."""
        return self.mean + (self.half_width or 0.0)

    def contains(self, value: float) -> bool:
        """Whether `value` lies in the band, its ends included, up to rounding."""
        return self.low - ROUNDING <= value <= self.high + ROUNDING


def band(values: Sequence[float], confidence: float = CONFIDENCE) -> Band:
    """The band of the mean of independent values, taken to be about normal.

    Args:
        values: at least one.
        confidence: in (0, 1).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a band needs at least one value, got none")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Band(mean=mean, half_width=None, count=1)
    # The import takes a third of a second, which only those who draw bands should pay.
    from scipy.special import stdtrit

    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    quantile = float(stdtrit(count - 1, 0.5 + confidence / 2))
    return Band(mean=mean, half_width=quantile * math.sqrt(variance / count), count=count)


def paired(first: Mapping[int, float], second: Mapping[int, float], factor: float = 1.0) -> list[float]:
    """`first` − `factor`·`second` for each seed that both have, in the order of the seeds.

    A seed fixes the split, the deal among sites and the start, so what it brings to both cancels.
    """
    return [first[seed] - factor * second[seed] for seed in sorted(first.keys() & second.keys())]
