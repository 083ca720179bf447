from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import tenseal
from numpy.typing import NDArray

from components.encryption.ckks.words import MODULUS, SCALE, WORDS, ciphertext_words, serialised_ciphertext
from components.errors import CiphertextError


def new_context(**changes: Any) -> Any:
    parameters = {
        "scheme": tenseal.SCHEME_TYPE.CKKS,
        "poly_modulus_degree": 8192,
        "coeff_mod_bit_sizes": [60, 60],
    }
    return tenseal.context(**{**parameters, "n_threads": 1, **changes})


def encrypted(context: Any, values: int = 4096, scale: float = SCALE) -> bytes:
    content: bytes = tenseal.ckks_vector(context, np.linspace(-9, 9, values).tolist(), scale).serialize()
    return content


@pytest.fixture(scope="module")
def context() -> Any:
    return new_context()


def is_prime(number: int) -> bool:
    """Miller-Rabin with the bases that decide every number below 2^64."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        power = pow(base, odd, number)
        if power in {1, number - 1}:
            continue
        if not any((power := power * power % number) == number - 1 for _ in range(twos - 1)):
            return False
    return True


def test_the_modulus_is_the_second_largest_prime_that_fits() -> None:
    candidates = range(2**60 - 2 * 8192 + 1, MODULUS - 1, -2 * 8192)
    primes = [number for number in candidates if is_prime(number)]
    assert len(primes) == 2
    assert primes[1] == MODULUS


def test_words_go_out_and_back(context: Any) -> None:
    content = encrypted(context)
    words = ciphertext_words(content)
    assert words.shape == (WORDS,)
    assert (words < MODULUS).all()
    assert serialised_ciphertext(words) == content


def test_what_we_write_is_what_tenseal_reads(context: Any) -> None:
    words = ciphertext_words(encrypted(context))
    opened = tenseal.ckks_vector_from(context, serialised_ciphertext(words)).decrypt()
    # Eight deviations (6.4e-7) of one ciphertext's noise.
    np.testing.assert_allclose(opened, np.linspace(-9, 9, 4096), rtol=0, atol=6e-6)


def test_every_new_ciphertext_has_this_form(context: Any) -> None:
    assert {len(encrypted(context)) for _ in range(30)} == {131_217}


def test_another_byte_anywhere_around_the_words_is_refused(context: Any) -> None:
    content = encrypted(context)
    # 133 bytes; 130,975 of words; 3 of the second zstd block's header; 97 of words; 9 of the scale.
    around = [*range(133), *range(131_108, 131_111), *range(131_208, 131_217)]
    for position in around:
        changed = bytearray(content)
        changed[position] ^= 1
        with pytest.raises(CiphertextError):
            ciphertext_words(bytes(changed))


def test_other_forms_are_refused(context: Any) -> None:
    others = {
        "fewer values": encrypted(context, values=4095),
        "two ciphertexts": encrypted(context, values=4097),
        "another scale": encrypted(context, scale=2.0**32),
        "another first prime": encrypted(new_context(coeff_mod_bit_sizes=[60, 40])),
        "two primes": encrypted(new_context(coeff_mod_bit_sizes=[60, 60, 60])),
        "truncated": encrypted(context)[:-1],
        "prolonged": encrypted(context) + b"\0",
        "empty": b"",
    }
    accepted = []
    for form, content in others.items():
        with contextlib.suppress(CiphertextError):
            ciphertext_words(content)
            accepted.append(form)
    assert accepted == []


def test_a_transparent_ciphertext_is_refused(context: Any) -> None:
    words = ciphertext_words(encrypted(context))
    words[WORDS // 2 :] = 0
    with pytest.raises(CiphertextError, match="anybody can read"):
        ciphertext_words(serialised_ciphertext(words))


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
