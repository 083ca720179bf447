"""What protections ask of a vector before they seal it.

Messages name a position and never a value: they may end in a log that other parties read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.errors import BadDataError

BLOCK_VALUES = 1 << 17
"""Values that are looked at at a time: 1 MB, so that nothing as long as an update is made beside it."""


def require_sealable(
    values: NDArray[np.float64], *, protection: str, largest: float = float(np.finfo(np.float64).max)
) -> None:
    """Pass a finite float64 vector with no value beyond `largest` in magnitude.

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


def require_integers(
    values: NDArray[Any], *, dtypes: Sequence[type[np.signedinteger[Any]]], bound: int, sites: int, name: str
) -> None:
    """Pass a non-empty vector of integers with none beyond `bound` in magnitude.

    Args:
        values: What a site is to seal.
        dtypes: The types it may have.
        bound: The most that one of so many sites may seal.
        sites: Sites whose vectors may be summed.
        name: The protection.

    Raises:
        BadDataError: A value is too large.
        ValueError: Not a one-dimensional, non-empty vector of one of the types.
    """
    if values.dtype not in dtypes or values.ndim != 1 or values.size == 0:
        named = " or ".join(np.dtype(each).name for each in dtypes)
        raise ValueError(
            f"what is sealed is one non-empty vector of {named}, got {values.dtype} {values.shape}"
        )
    if max(int(values.max()), -int(values.min())) > bound:
        outside = (values > bound) | (values < -bound)
        raise BadDataError(
            f"value {int(outside.argmax())} of the update is beyond {bound}, the most that "
            f"{sites} sites can add: check scale, clipping norm and number of examples",
            disclosed=f"the update is outside the range of {name}",
        )
