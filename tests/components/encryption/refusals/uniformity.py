"""Whether numbers are uniform below p: moments, bins of the high and of the low bits, and neighbours.

The bounds are 7 deviations for what is nearly normal and 10 for chi-square: by chance one in 1e11 fails.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from components.encryption.bfv.packing import PLAIN_MODULUS

BINS = 256
# k-th central moment of a uniform variable on [0, 1), and the variance of its estimate.
MOMENTS = {1: (0.0, 1 / 12), 2: (1 / 12, 1 / 180), 3: (0.0, 1 / 448), 4: (1 / 80, 1 / 2304 - 1 / 6400)}


def departures(slots: NDArray[np.uint64]) -> list[str]:
    """Every way in which the slots are not uniform; empty where they cannot be told from it."""
    found: list[str] = []
    count = slots.size
    if slots.max() >= PLAIN_MODULUS:
        found.append("a slot is not below p")
    centred = slots.astype(np.float64) / PLAIN_MODULUS - 0.5
    for power, (expected, variance) in MOMENTS.items():
        z = (float(np.mean(centred**power)) - expected) / math.sqrt(variance / count)
        if abs(z) > 7:
            found.append(f"moment {power} is {z:.1f} deviations off")
    for name, other in (("neighbour", centred[1:]), ("slot half a row on", np.roll(centred, 4096)[1:])):
        z = float(np.mean(centred[:-1] * other)) * 12 * math.sqrt(count)
        if abs(z) > 7:
            found.append(f"the correlation with the {name} is {z:.1f} deviations off")
    high = (slots.astype(object) * BINS // PLAIN_MODULUS).astype(np.int64)
    for name, bins in (("high", high), ("low", (slots % np.uint64(BINS)).astype(np.int64))):
        observed = np.bincount(bins, minlength=BINS)
        chi_square = float(np.sum((observed - count / BINS) ** 2) / (count / BINS))
        if abs(chi_square - (BINS - 1)) > 10 * math.sqrt(2 * (BINS - 1)):
            found.append(f"chi-square of the {name} bits is {chi_square:.0f}, expected {BINS - 1}")
    return found


def correlation(slots: NDArray[np.uint64], plain: NDArray[np.uint64]) -> float:
    """Of the slots with what they hide, in deviations of independent ones."""
    one, other = (values.astype(np.float64) for values in (slots, plain))
    if other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1]) * math.sqrt(slots.size)
