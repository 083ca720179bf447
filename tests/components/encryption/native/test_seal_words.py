from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.encryption.native.seal_words import MODULUS, add_residues, require_residues
from components.errors import CiphertextError

RESIDUE = st.one_of(st.integers(0, MODULUS - 1), st.sampled_from([0, 1, MODULUS // 2, MODULUS - 1]))


@given(pairs=st.lists(st.tuples(RESIDUE, RESIDUE), min_size=1, max_size=40))
def test_adds_modulo_the_prime(pairs: list[tuple[int, int]]) -> None:
    total = np.array([a for a, _ in pairs], np.uint64)
    words = np.array([b for _, b in pairs], np.uint64)
    words.setflags(write=False)
    add_residues(total, words)
    assert total.tolist() == [(a + b) % MODULUS for a, b in pairs]


def test_residues_pass_and_nothing_else_does() -> None:
    require_residues(np.array([], np.uint64))
    require_residues(np.array([0, MODULUS - 1], np.uint64))
    for word in (MODULUS, MODULUS + 1, 2**63, 2**64 - 1):
        for position in (0, 5, 9):
            words = np.full(10, MODULUS - 1, np.uint64)
            words[position] = word
            with pytest.raises(CiphertextError, match="words that no ciphertext has"):
                require_residues(words)
