"""Texts in batches whose shape follows from the length of their texts alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Above this many tokens a batch the activations of a small encoder leave a processor's cache and
# throughput halves. A GPU wants many times more, and no more than fill it: a length whose texts do not fill
# their last batch costs what a full one does, and there are as many of those as there are lengths.
CPU_TOKENS_PER_BATCH = 512
CUDA_TOKENS_PER_BATCH = 8_192


def tokens_per_batch(device: str) -> int:
    """Tokens that a full batch holds on a device of this name."""
    return CUDA_TOKENS_PER_BATCH if device.startswith("cuda") else CPU_TOKENS_PER_BATCH


def batches(lengths: NDArray[np.int64], tokens_per_batch: int) -> list[tuple[NDArray[np.int64], int]]:
    """Row numbers in batches of one length, longest first, each with the size it is to be filled up to.

    The size follows from the length alone: as many rows as `tokens_per_batch` hold. Longest first, so that a
    device that is too small says so at once and not at the end.
    """
    found = []
    for length in np.unique(lengths)[::-1].tolist():
        rows = np.flatnonzero(lengths == length)
        size = max(1, tokens_per_batch // max(1, length))
        found += [(rows[start : start + size], size) for start in range(0, len(rows), size)]
    return found
