from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import tenseal
from numpy.typing import NDArray

from components.encryption.bfv import words as bfv_words
from components.encryption.bfv.words import MODULUS, WORDS, ciphertext_content, serialised_ciphertext
from components.encryption.ckks import words as ckks_words
from components.errors import CiphertextError
from tests.components.encryption.tenseal_vectors import ciphertext_of, vector_from

P = 70368743669761
SLOTS = np.random.default_rng(0).integers(0, P, 8192).tolist()


def new_context(**changes: Any) -> Any:
    parameters = {
        "scheme": tenseal.SCHEME_TYPE.BFV,
        "poly_modulus_degree": 8192,
        "plain_modulus": P,
        "coeff_mod_bit_sizes": [60, 60],
    }
    return tenseal.context(**{**parameters, "n_threads": 1, **changes})


def encrypted(context: Any, slots: list[int] = SLOTS) -> bytes:
    return ciphertext_of(tenseal.bfv_vector(context, slots))


def words_of(content: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(ciphertext_content(content), "<u8").astype(np.uint64)


@pytest.fixture(scope="module")
def context() -> Any:
    return new_context()


def test_words_go_out_and_back(context: Any) -> None:
    content = encrypted(context)
    words = words_of(content)
    assert words.shape == (WORDS,)
    assert (words < MODULUS).all()
    assert serialised_ciphertext(words) == content


def test_what_we_write_is_what_tenseal_reads(context: Any) -> None:
    opened = vector_from(context, serialised_ciphertext(words_of(encrypted(context)))).decrypt()
    assert [slot % P for slot in opened] == SLOTS


def test_every_new_ciphertext_has_this_form(context: Any) -> None:
    assert {len(encrypted(context)) for _ in range(30)} == {131_200}


def test_another_byte_anywhere_around_the_words_is_refused(context: Any) -> None:
    content = encrypted(context)
    # 125 bytes; 130,975 of words; 3 of the second zstd block's header; 97 of words.
    for position in (*range(125), *range(131_100, 131_103)):
        changed = bytearray(content)
        changed[position] ^= 1
        with pytest.raises(CiphertextError):
            ciphertext_content(bytes(changed))


def test_other_forms_are_refused(context: Any) -> None:
    ckks = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 60], n_threads=1)
    others = {
        "another plain modulus": encrypted(new_context(plain_modulus=1032193), [1] * 8192),
        "another first prime": encrypted(new_context(coeff_mod_bit_sizes=[60, 40])),
        "two primes": encrypted(new_context(coeff_mod_bit_sizes=[60, 60, 60])),
        "a CKKS ciphertext": tenseal.ckks_vector(ckks, [1.0] * 4096, 2.0**31).serialize(),
        "truncated": encrypted(context)[:-1],
        "prolonged": encrypted(context) + b"\0",
        "empty": b"",
    }
    accepted = []
    for form, content in others.items():
        with contextlib.suppress(CiphertextError):
            ciphertext_content(content)
            accepted.append(form)
    assert accepted == []


def test_a_product_of_three_polynomials_is_refused(context: Any) -> None:
    vector = tenseal.bfv_vector(new_context(coeff_mod_bit_sizes=[60, 60, 60]), [1] * 8192)
    with pytest.raises(CiphertextError):
        ciphertext_content(ciphertext_of(vector * vector))


def test_a_transparent_ciphertext_is_refused(context: Any) -> None:
    words = words_of(encrypted(context))
    words[WORDS // 2 :] = 0
    with pytest.raises(CiphertextError, match="anybody can read"):
        ciphertext_content(serialised_ciphertext(words))


def test_a_new_ciphertext_with_words_beyond_the_modulus_is_refused(context: Any) -> None:
    content = bytearray(encrypted(context))
    content[125:133] = MODULUS.to_bytes(8, "little")
    with pytest.raises(CiphertextError, match="words that no ciphertext has"):
        ciphertext_content(bytes(content))


@pytest.mark.parametrize(
    "words",
    [
        np.zeros(WORDS - 1, np.uint64),
        np.zeros((2, WORDS), np.uint64),
        np.full(WORDS, MODULUS, np.uint64),
        np.append(np.zeros(WORDS - 1, np.uint64), np.uint64(2**64 - 1)),
    ],
)
def test_nothing_but_a_ciphertext_is_written(words: NDArray[np.uint64]) -> None:
    with pytest.raises(CiphertextError):
        serialised_ciphertext(words)


def test_the_two_schemes_never_read_each_others_words(context: Any) -> None:
    """The same words in the other scheme's envelope: another hash of the parameters."""
    words = words_of(encrypted(context))
    with pytest.raises(CiphertextError):
        ciphertext_content(ckks_words.serialised_ciphertext(words))
    with pytest.raises(CiphertextError):
        ckks_words.ciphertext_words(serialised_ciphertext(words))
    assert bfv_words.MODULUS == ckks_words.MODULUS


def test_adding_words_is_what_seal_adds(context: Any) -> None:
    contents = [encrypted(context) for _ in range(5)]
    first, *others = (vector_from(context, content) for content in contents)
    total = np.zeros(WORDS, np.uint64)
    for other in others:
        first += other
    for content in contents:
        bfv_words.add_residues(total, words_of(content))
    assert serialised_ciphertext(total) == ciphertext_of(first)
