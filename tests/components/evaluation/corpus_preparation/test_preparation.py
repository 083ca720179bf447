"""A corpus of small texts under a real encoder of one layer: what stands where, and that it is repeatable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.data_processing.feature_augmentation.centring import centred, public_mean
from components.data_processing.feature_augmentation.encoder import Encoder, EncoderSpec
from components.errors import BadDataError
from components.evaluation.corpus_preparation.late_cloud import CLOUDS, SEED, late_rows
from components.evaluation.corpus_preparation.preparation import prepare
from components.evaluation.corpus_preparation.step import write_corpus
from components.evaluation.corpus_preparation.texts import Texts
from components.evaluation.corpus_preparation.typing_errors import mistyped
from components.evaluation.corpus_preparation.words import hashed_words
from components.evaluation.rehearsal.corpus import Corpus
from tests.components.evaluation.corpus_preparation.small_texts import small_texts, spec_of
from tests.conftest import CLASSES, FILLER, WORDS


@pytest.fixture
def encoder(tiny_encoder: Path) -> EncoderSpec:
    return spec_of(tiny_encoder)


def test_features_are_those_of_a_round_with_and_without_a_language_model(encoder: EncoderSpec) -> None:
    texts = small_texts()
    told: list[tuple[int, int]] = []
    corpus = prepare(texts, encoder, device="cpu", on_progress=lambda *done: told.append(done))
    loaded = Encoder(encoder, device="cpu")
    assert np.array_equal(corpus.train.features, loaded.encode(texts.train))
    assert np.array_equal(corpus.test.features, loaded.encode(texts.test))
    assert corpus.train.labels.tolist() == list(texts.train_labels)
    assert corpus.test.labels.tolist() == list(texts.test_labels)
    assert np.array_equal(corpus.train_words, hashed_words(texts.train))
    assert np.array_equal(corpus.test_words, hashed_words(texts.test))
    assert told[-1][0] == told[-1][1]


def test_the_late_cloud_has_its_rows_mistyped_and_no_others(encoder: EncoderSpec) -> None:
    texts = small_texts()
    corpus = prepare(texts, encoder, device="cpu")
    train, test = late_rows(texts)
    assert np.array_equal(corpus.late_rows, train)
    assert corpus.late_train.labels.tolist() == [texts.train_labels[row] for row in train]
    assert corpus.late_test.labels.tolist() == [texts.test_labels[row] for row in test]
    loaded = Encoder(encoder, device="cpu")
    changed = mistyped([texts.train[row] for row in train], seed=SEED)
    assert np.array_equal(corpus.late_train.features, loaded.encode(changed))
    assert not np.array_equal(corpus.late_train.features, corpus.train.features[train])


def test_a_fifth_of_the_rows_is_late_in_skewed_proportions() -> None:
    labels = tuple(np.random.default_rng(2).integers(0, 20, 4000).tolist())
    texts = Texts(
        name="skewed",
        classes=tuple(map(str, range(20))),
        train=("x",) * 4000,
        train_labels=labels,
        test=("x",) * 1000,
        test_labels=labels[:1000],
    )
    train, test = late_rows(texts)
    shares = [np.bincount(np.array(labels)[rows], minlength=20) for rows in (train, test)]
    # A share from Dirichlet(0.3 × 5) has mean 1/5 and deviation 0.25; the mean of 20 classes 0.057.
    assert len(train) / 4000 == pytest.approx(1 / CLOUDS, abs=0.17)
    assert len(test) / len(train) == pytest.approx(1000 / 4000, abs=0.03)
    assert shares[0].max() > 4 * max(1, shares[0].min())


def test_public_texts_centre_all_of_it(encoder: EncoderSpec) -> None:
    public = tuple(f"{word} {filler}" for word in WORDS["heart"] for filler in FILLER)
    texts, plain = small_texts(public=public), prepare(small_texts(), encoder, device="cpu")
    corpus = prepare(texts, encoder, device="cpu")
    mean = public_mean(public, Encoder(encoder, device="cpu"))
    for part in ("train", "test", "late_train", "late_test"):
        assert np.array_equal(getattr(corpus, part).features, centred(getattr(plain, part).features, mean)), (
            part
        )
    assert np.array_equal(corpus.train_words, plain.train_words)


def test_the_step_writes_the_same_corpus_every_time(encoder: EncoderSpec, tmp_path: Path) -> None:
    texts = small_texts()
    for part, of_part, numbers in (
        ("train", texts.train, texts.train_labels),
        ("test", texts.test, texts.test_labels),
    ):
        lines = [f"{text},{CLASSES[number]}" for text, number in zip(of_part, numbers, strict=True)]
        (tmp_path / f"{part}.csv").write_text("\n".join(["text,label", *lines]))
    files = [tmp_path / "one", tmp_path / "two"]
    outcomes = [
        write_corpus(str(tmp_path), encoder=encoder, quick=True, device="cpu", path=str(path))
        for path in files
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    corpus = Corpus.read(files[0])
    assert outcomes[0].manifest == {
        "name": tmp_path.name,
        "digest": corpus.digest,
        "classes": 3,
        "train_rows": 150,
        "test_rows": 60,
    }


def test_too_few_rows_for_a_late_cloud_are_told(encoder: EncoderSpec) -> None:
    with pytest.raises(BadDataError, match="too few for 5 sites"):
        prepare(small_texts(train=6, test=2), encoder, device="cpu")
