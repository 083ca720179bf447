"""A site's features as `augment` stored them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.artifacts.stores import Store, key_of
from components.artifacts.tensors import decode_any
from components.errors import BadDataError, IntegrityError


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Features float32 (n, d) and labels int64 (n,)."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SiteFeatures:
    """A site's examples, split as its warehouse split them."""

    train: Examples
    test: Examples


def centred(features: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features minus a public mean, each row brought back to the norm it had.

    Sentence embeddings share one large direction; sums over classes say little beside it. The mean is
    that of a public corpus under the same encoder, never of a site's rows: nothing of them is released.

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
    result: NDArray[np.float32] = (shifted * ratio).astype(np.float32)
    return result


def read_features(store: Store, reference: str) -> SiteFeatures:
    """Reads a feature file from the site's own store.

    Raises:
        IntegrityError: the file lacks one of its three arrays, or they disagree in length.
    """
    found = decode_any(store.read(key_of(store, reference)))
    try:
        features = found["features"].astype(np.float32, copy=False)
        labels = found["labels"].astype(np.int64, copy=False)
        is_test = found["is_test"].astype(bool)
    except KeyError as missing:
        raise IntegrityError(f"the feature file lacks {missing}") from None
    if not len(features) == len(labels) == len(is_test):
        raise IntegrityError("features, labels and split of a feature file must have the same length")
    return SiteFeatures(
        train=Examples(features=features[~is_test], labels=labels[~is_test]),
        test=Examples(features=features[is_test], labels=labels[is_test]),
    )
