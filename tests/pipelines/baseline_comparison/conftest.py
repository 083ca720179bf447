"""A small corpus in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.evaluation.rehearsal.corpus import Corpus
from components.training.features import Examples

CLASSES = 4


def small_corpus(rows: int = 80, features: int = 6, seed: int = 3) -> Corpus:
    """Rows of normal numbers; nothing can be learned from them."""
    generator = np.random.default_rng(seed)

    def examples(number: int) -> Examples:
        drawn = generator.normal(size=(number, features)).astype(np.float32)
        return Examples(features=drawn, labels=np.arange(number, dtype=np.int64) % CLASSES)

    train, test = examples(rows), examples(rows // 2)
    return Corpus(
        name="small",
        classes=tuple("abcd"),
        train=train,
        test=test,
        train_words=train.features[:, :3].copy(),
        test_words=test.features[:, :3].copy(),
        late_rows=np.arange(8),
        late_train=examples(8),
        late_test=examples(4),
    )


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.safetensors"
    small_corpus().write(path)
    return path
