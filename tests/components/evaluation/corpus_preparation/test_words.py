"""Hashed words: their law, and that everybody gets the same."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from components.evaluation.corpus_preparation.words import DIMENSIONS, hashed_words


def coordinate(word: str, dimensions: int) -> tuple[int, int]:
    """Where a word goes and with which sign, written anew."""
    number = int(hashlib.blake2b(word.encode(), digest_size=8).hexdigest(), 16)
    return number // 2 % dimensions, 1 if number % 2 else -1


def test_rows_have_norm_root_d_and_what_has_no_word_is_zero() -> None:
    found = hashed_words(["a card was lost", "LOST!", "…", ""])
    assert found.shape == (4, DIMENSIONS)
    assert found.dtype == np.float32
    lengths = np.linalg.norm(found.astype(np.float64), axis=1)
    # Values are rounded to float32, whose relative error is 6e-8.
    assert lengths == pytest.approx([math.sqrt(DIMENSIONS)] * 2 + [0, 0], rel=1e-6)


def test_a_word_adds_one_plus_log_of_its_count_where_its_hash_says() -> None:
    (row,) = hashed_words(["Card card CARD fee"], dimensions=50)
    expected = np.zeros(50)
    for word, count in (("card", 3), ("fee", 1)):
        place, sign = coordinate(word, 50)
        expected[place] += sign * (1 + math.log(count))
    expected *= math.sqrt(50) / np.linalg.norm(expected)
    assert row == pytest.approx(expected, rel=1e-6)


def test_the_hash_is_the_same_everywhere() -> None:
    words = [f"word{number}" for number in range(200)]
    digest = hashlib.sha256(np.sign(hashed_words(words, dimensions=64)).astype(np.int8).tobytes()).hexdigest()
    assert digest == "9fe4d3168b6cad37de595dbc3d73ba07381fa33409f4589c850e82870fb0a016"


def test_inner_products_are_kept_on_average() -> None:
    """Weinberger et al. 2009, Lemma 2: unbiased, with a variance of order 1/d."""
    generator = np.random.default_rng(5)
    dimensions, shared, every = 256, 6, 12
    errors = []
    for trial in range(300):
        words = [f"{trial}-{number}".replace("-", "x") for number in generator.permutation(1000)[: 2 * every]]
        left, right = words[:every], words[every - shared : 2 * every - shared]
        pair = hashed_words([" ".join(left), " ".join(right)], dimensions)
        errors.append(float(pair[0] @ pair[1]) / dimensions - shared / every)
    # Each estimate deviates by less than about 2/√256 = 0.125, so the mean of 300 by 0.0072: four of these.
    assert abs(np.mean(errors)) < 0.029
    assert np.std(errors) < 0.125
