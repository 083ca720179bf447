"""Features about a public mean: what sums over classes say beside the direction that all sentences share.

Sentence embeddings have one large direction in common (Mu and Viswanath 2018, "All-but-the-Top", ICLR). The
mean that is taken off is that of a public corpus under the same encoder, never of a site's rows: nothing of
them is released by it, and it costs no epsilon. It helps where the corpus is of the records' own kind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.data_processing.feature_augmentation.encoder import Encoder
from components.errors import BadDataError

Features = NDArray[np.float32]


def public_mean(texts: Sequence[str], encoder: Encoder) -> Features:
    """Mean feature of public texts, (dimensions,), in the scale of features."""
    mean: Features = encoder.encode(texts).astype(np.float64).mean(axis=0).astype(np.float32)
    return mean


def centred(features: Features, mean: Features) -> Features:
    """Features minus a public mean, each row brought back to the norm it had.

    Args:
        features: (n, d); left as they are.
        mean: (d,), in the scale of the features, which `augment` stores at norm √d.

    Returns:
        float32, (n, d); a row that equals the mean has no direction left and is zero.

    Raises:
        BadDataError: the mean has another width.
    """
    if mean.shape != features.shape[1:]:
        raise BadDataError(
            f"a public mean of shape {mean.shape} does not fit features of {features.shape[1]} dimensions"
        )
    shifted = features.astype(np.float64) - mean.astype(np.float64)
    lengths = np.linalg.norm(shifted, axis=1, keepdims=True)
    wanted = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    ratio = np.divide(wanted, lengths, out=np.zeros_like(wanted), where=lengths > 0)
    result: Features = (shifted * ratio).astype(np.float32)
    return result
