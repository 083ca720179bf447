"""From texts to a corpus: features with the frozen language model and without, and the late cloud's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from components.data_processing.feature_augmentation.centring import centred
from components.data_processing.feature_augmentation.encoder import Encoder, EncoderSpec
from components.evaluation.corpus_preparation.late_cloud import SEED, late_rows
from components.evaluation.corpus_preparation.texts import Texts
from components.evaluation.corpus_preparation.typing_errors import mistyped
from components.evaluation.corpus_preparation.words import hashed_words
from components.evaluation.rehearsal.corpus import Corpus
from components.training.features import Examples

Features = NDArray[np.float32]


def _ignore(_done: int, _total: int) -> None:
    """Does nothing with progress."""


def prepare(
    texts: Texts,
    encoder: EncoderSpec,
    *,
    device: str = "auto",
    on_progress: Callable[[int, int], None] = _ignore,
) -> Corpus:
    """Makes the corpus that every measurement reads.

    Args:
        texts: the data set.
        encoder: which language model; features are its own with norm √dimensions (Eq. 3), centred on the
            mean of the data set's public texts where it has some.
        device: `auto`, `cpu` or `cuda`.
        on_progress: is told how many texts are encoded, of how many.

    Raises:
        EncoderError: the model is missing or another one.
        BadDataError: there are too few rows for a late cloud.
    """
    late_train, late_test = late_rows(texts)
    train_labels, test_labels = np.array(texts.train_labels), np.array(texts.test_labels)
    parts = [
        texts.train,
        texts.test,
        mistyped([texts.train[row] for row in late_train], seed=SEED),
        mistyped([texts.test[row] for row in late_test], seed=SEED + 1),
        texts.public,
    ]
    train, test, shifted_train, shifted_test = _features(parts, encoder, device, on_progress)
    return Corpus(
        name=texts.name,
        classes=texts.classes,
        train=Examples(features=train, labels=train_labels),
        test=Examples(features=test, labels=test_labels),
        train_words=hashed_words(texts.train),
        test_words=hashed_words(texts.test),
        late_rows=late_train,
        late_train=Examples(features=shifted_train, labels=train_labels[late_train]),
        late_test=Examples(features=shifted_test, labels=test_labels[late_test]),
    )


def _features(
    parts: Sequence[Sequence[str]],
    spec: EncoderSpec,
    device: str,
    on_progress: Callable[[int, int], None],
) -> list[Features]:
    """Features of all parts but the last, centred on the mean of the last where it has texts."""
    every = [text for part in parts for text in part]
    total = len(every)
    encoded = Encoder(spec, device=device).encode(every, on_progress=lambda done: on_progress(done, total))
    *found, public = np.split(encoded, np.cumsum([len(part) for part in parts])[:-1])
    if not len(public):
        return [np.ascontiguousarray(each) for each in found]
    mean: Features = public.astype(np.float64).mean(axis=0).astype(np.float32)
    return [centred(each, mean) for each in found]
