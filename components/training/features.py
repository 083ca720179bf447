"""A site's features as `augment` stored them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.artifacts.stores import Store, key_of
from components.artifacts.tensors import decode_any
from components.errors import IntegrityError


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Features float32 (n, d) and labels int64 (n,).

    Units, int64 (n,), are equal for rows of one unit of privacy; None where rows are not told apart by it.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    units: NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True)
class SiteFeatures:
    """A site's examples, split as its warehouse split them."""

    train: Examples
    test: Examples


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
    units = found["units"].astype(np.int64, copy=False) if "units" in found else None
    if not len(features) == len(labels) == len(is_test) == len(labels if units is None else units):
        raise IntegrityError("features, labels, split and units of a feature file must have the same length")
    train, test = (
        Examples(features=features[rows], labels=labels[rows], units=None if units is None else units[rows])
        for rows in (~is_test, is_test)
    )
    return SiteFeatures(train=train, test=test)
