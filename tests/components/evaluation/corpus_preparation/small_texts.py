"""Notes of three organs, in the words that the tests' tiny encoder knows."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from components.data_processing.feature_augmentation.encoder import EncoderSpec
from components.evaluation.corpus_preparation.texts import Texts
from tests.conftest import CLASSES, DIMENSIONS, FILLER, WORDS


def small_texts(train: int = 150, test: int = 60, public: tuple[str, ...] = ()) -> Texts:
    chance = random.Random(4)

    def drawn(number: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        labels = tuple(chance.randrange(len(CLASSES)) for _ in range(number))
        texts = (chance.sample(WORDS[CLASSES[label]], 2) + chance.sample(FILLER, 2) for label in labels)
        return tuple(" ".join(words) for words in texts), labels

    train_texts, train_labels = drawn(train)
    test_texts, test_labels = drawn(test)
    return Texts(
        name="small",
        classes=CLASSES,
        train=train_texts,
        train_labels=train_labels,
        test=test_texts,
        test_labels=test_labels,
        public=public,
    )


def spec_of(folder: Path) -> EncoderSpec:
    """The encoder in a folder, by its digest."""
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return EncoderSpec(name=str(folder), revision="", digest=digest, max_length=16, dimensions=DIMENSIONS)
