"""Typing errors: seeded, at the rate asked for, and of the two kinds."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from components.evaluation.corpus_preparation.typing_errors import mistyped

TEXTS = ["the card was declined at the counter", "ab", "a", ""] * 5


def test_the_same_seed_makes_the_same_errors_and_another_makes_others() -> None:
    assert mistyped(TEXTS, seed=1) == mistyped(TEXTS, seed=1)
    assert mistyped(TEXTS, seed=1) != mistyped(TEXTS, seed=2)


def test_no_rate_changes_nothing_and_no_text_vanishes() -> None:
    assert mistyped(TEXTS, seed=1, rate=0) == TEXTS
    assert all(typed for typed, text in zip(mistyped(TEXTS, seed=1, rate=1), TEXTS, strict=True) if text)


def test_errors_come_at_the_rate_and_half_of_them_are_omissions() -> None:
    text = "".join(chr(0x4E00 + place) for place in range(20_000))
    (typed,) = mistyped([text], seed=3)
    left_out = len(text) - len(typed)
    moved = sum(ord(first) - ord(second) == 1 for first, second in itertools.pairwise(typed))
    # Of 20,000 characters 8 % begin an error, less those that a swap has passed over (4 % of them): about
    # 1,540, a standard deviation of 38 on each side, half of each kind.
    assert left_out == pytest.approx(770, abs=4 * 28)
    assert moved == pytest.approx(770, abs=4 * 28)
    assert not Counter(typed) - Counter(text)
