"""What every protection asks of a vector before it seals it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError


def require_sealable(values: NDArray[np.float64], *, protection: str, largest: float = np.inf) -> None:
    """Pass a finite float64 vector with no value beyond `largest` in magnitude.

    The message names a position and never a value: it may end in a log that other parties read.

    Raises:
        BadDataError: A value is not finite or too large.
        ValueError: Not a one-dimensional, non-empty float64 vector.
    """
    if values.dtype != np.float64 or values.ndim != 1 or values.size == 0:
        raise ValueError(f"what is sealed is one non-empty float64 vector, got {values.dtype} {values.shape}")
    outside = ~np.isfinite(values) | (np.abs(values) > largest)
    if outside.any():
        raise BadDataError(
            f"value {int(outside.argmax())} of the weighted update is not finite or beyond {largest:g}: "
            f"{protection} cannot carry it, lower the learning rate or the number of examples of a round",
            disclosed=f"the update is outside the range of {protection}",
        )
