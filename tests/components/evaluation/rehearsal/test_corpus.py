from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.errors import BadDataError, IntegrityError
from components.evaluation.rehearsal.corpus import LANGUAGE_MODEL, WORDS, Corpus
from components.training.features import Examples
from tests.components.evaluation.rehearsal.made import made_corpus


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    corpus = made_corpus()
    corpus.write(tmp_path / "below" / "corpus.safetensors")
    found = Corpus.read(tmp_path / "below" / "corpus.safetensors")
    assert (found.name, found.classes, found.digest) == (corpus.name, corpus.classes, corpus.digest)
    np.testing.assert_array_equal(found.late_test.features, corpus.late_test.features)
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["corpus.safetensors"]


def test_one_other_value_is_another_corpus() -> None:
    corpus = made_corpus()
    other = corpus.test_words.copy()
    other[0, 0] += 1
    assert replace(corpus, test_words=other).digest != corpus.digest


def test_both_forms_of_features_have_the_same_labels() -> None:
    corpus = made_corpus()
    for part in range(2):
        with_model, without = corpus.examples(LANGUAGE_MODEL)[part], corpus.examples(WORDS)[part]
        np.testing.assert_array_equal(with_model.labels, without.labels)
        assert not np.array_equal(with_model.features, without.features)


def test_one_class_to_train_on_is_refused_with_the_rule() -> None:
    corpus = made_corpus()
    one = Examples(features=corpus.train.features, labels=np.zeros(len(corpus.train.labels), np.int64))
    with pytest.raises(BadDataError, match="made has 1 class to train on: a classifier needs at least 2"):
        replace(corpus, train=one)


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    corpus = made_corpus()
    with pytest.raises(IntegrityError, match="equally many"):
        replace(corpus, train_words=corpus.train_words[1:])
    with pytest.raises(IntegrityError, match="none of its 3 classes"):
        replace(corpus, classes=("a", "b", "c"))
    path = tmp_path / "corpus.safetensors"
    path.write_bytes(b"no corpus")
    with pytest.raises(IntegrityError):
        Corpus.read(path)
