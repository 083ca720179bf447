"""A corpus made up from classes that lie apart, small enough for every test."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.rehearsal.corpus import Corpus
from components.training.features import Examples

CLASSES, FEATURES = 12, 32


def made_corpus(rows: int = 480, *, seed: int = 1, apart: float = 1.0) -> Corpus:
    """`rows` to train on and half as many to test on; `apart` is how far class means are from each other."""
    generator = np.random.default_rng(seed)
    means = generator.standard_normal((CLASSES, FEATURES)) * apart

    def drawn(count: int) -> Examples:
        labels = generator.integers(0, CLASSES, count)
        rows = means[labels] + generator.standard_normal((count, FEATURES))
        return Examples(features=scaled(rows), labels=labels)

    train, test = drawn(rows), drawn(rows // 2)
    late = np.sort(generator.permutation(rows)[: rows // 5])
    late_test = np.arange(rows // 10)
    return Corpus(
        name="made",
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        train=train,
        test=test,
        train_words=scaled(train.features + generator.standard_normal(train.features.shape)),
        test_words=scaled(test.features + generator.standard_normal(test.features.shape)),
        late_rows=late,
        late_train=Examples(features=scaled(train.features[late] + 0.5), labels=train.labels[late]),
        late_test=Examples(features=scaled(test.features[late_test] + 0.5), labels=test.labels[late_test]),
    )


def scaled(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Rows at norm √features, as `augment` stores them."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: NDArray[np.float32] = (rows / lengths * np.sqrt(rows.shape[1])).astype(np.float32)
    return found
