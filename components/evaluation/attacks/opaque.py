"""Sealed bytes as the vector that an attack is run on all the same.

A protection is not at chance because nobody tried: what an attack does with a plaintext update it also does
with what a party is sent in its place. Under the masks of `masked` and `smc` a word stands for a value, so
word i is taken for value i; a ciphertext has no such order, and any order is as good.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.encryption.framing import HEADER_BYTES, MAGIC
from components.errors import UsageError

_WORD: Final = 4
_PERIOD: Final = 2
"""Low and high words of a 64-bit number below a prime have moments of their own."""


def as_numbers(blob: bytes, length: int) -> NDArray[np.float64]:
    """The first 32-bit words of a sealed update, each kind with mean 0 and variance 1.

    Words are read as signed little-endian integers: what a site seals before it masks it. A header, which
    is the same for every site, is left out; values beyond the last word are 0.

    Args:
        blob: what a party holds.
        length: values of the vector that it stands for, at least 1.

    Returns:
        float64, (length,).

    Raises:
        UsageError: there is no word, or no value to read one for.
    """
    start = HEADER_BYTES if blob[: len(MAGIC)] == MAGIC else 0
    count = min((len(blob) - start) // _WORD, length)
    if count < 1:
        raise UsageError(f"{len(blob)} bytes hold no word to read as one of {length} values")
    numbers = np.zeros(length)
    numbers[:count] = np.frombuffer(blob, "<i4", count=count, offset=start)
    for offset in range(_PERIOD):
        words = numbers[offset:count:_PERIOD]
        words -= words.mean() if len(words) else 0.0
        deviation = words.std() if len(words) else 0.0
        words /= deviation or 1.0
    return numbers
