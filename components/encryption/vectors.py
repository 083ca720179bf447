"""What every protection of floating-point values asks of a vector before it seals it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError

BLOCK_VALUES = 1 << 17
"""Values that are looked at at a time: 1 MB, so that nothing as long as an update is made beside it."""


def require_sealable(
    values: NDArray[np.float64], *, protection: str, largest: float = float(np.finfo(np.float64).max)
) -> None:
    """Pass a finite float64 vector with no value beyond `largest` in magnitude.

    The message names a position and never a value: it may end in a log that other parties read.

    Raises:
        BadDataError: A value is not finite or too large.
        ValueError: Not a one-dimensional, non-empty float64 vector.
    """
    if values.dtype != np.float64 or values.ndim != 1 or values.size == 0:
        raise ValueError(f"what is sealed is one non-empty float64 vector, got {values.dtype} {values.shape}")
    for start in range(0, values.size, BLOCK_VALUES):
        # Not "beyond": a NaN is neither beyond nor within.
        within = np.abs(values[start : start + BLOCK_VALUES]) <= largest
        if not within.all():
            raise BadDataError(
                f"value {start + int(within.argmin())} of the weighted update is not finite or beyond "
                f"{largest:g}: {protection} cannot carry it, lower the learning rate or the number of "
                "examples of a round",
                disclosed=f"the update is outside the range of {protection}",
            )
