"""An attack on CKKS by whoever holds a sum's ciphertext and what it opened to (Li and Micciancio, 2021).

This is why `HeOpener` rounds. What TenSEAL decrypts to is exact enough to give back the integer
polynomial m' = c0 + c1*s mod q, so every opened ciphertext is a linear equation in the key s. It
returns real parts only, that is m'(X) + m'(1/X); two ciphertexts give two equations in the two
unknowns s(x) and s(1/x) at each root x.
"""

from __future__ import annotations

import io

import numpy as np
import tenseal
from numpy.typing import NDArray

from components.encryption import protection
from components.encryption.ckks.words import serialised_ciphertext

DEGREE = 8192
MODULUS = 1152921504606748673
SCALE = 2.0**31
HEADER_BYTES = 80


def test_rounding_keeps_the_key_out_of_what_is_opened() -> None:
    public, secret = protection.generate_contexts("he")
    sealer, generator = protection.sealer("he", public), np.random.default_rng(0)
    sealed = [b"".join(sealer.seal(generator.normal(0, 15, DEGREE))) for _ in range(3)]
    blobs = [io.BytesIO(blob) for blob in sealed]
    total = b"".join(protection.summer("he", public).add(blobs, DEGREE))
    words = np.frombuffer(total[HEADER_BYTES:], "<u8").reshape(2, 2 * DEGREE)

    context = tenseal.context_from(secret, n_threads=1)
    unrounded = np.array(
        [tenseal.ckks_vector_from(context, serialised_ciphertext(w)).decrypt() for w in words]
    )
    assert set(recover_key(words, unrounded)) == {-1, 0, 1}

    opened = protection.opener("he", secret).open(io.BytesIO(total), DEGREE).reshape(2, -1)
    # As good as uniform modulo 2^60: a coefficient below 2^40 has probability 2^-19.
    assert sum(abs(c) < 2**40 for c in recover_key(words, opened)) < 10


def recover_key(words: NDArray[np.uint64], opened: NDArray[np.float64]) -> list[int]:
    """Solve for the secret key from two ciphertexts, shape (2, 16384), and their values, shape (2, 4096).

    Returns:
        The 8192 coefficients of what would be the key, centred modulo the prime.
    """
    root = _smallest_root()
    c0 = [[int(w) for w in row[:DEGREE]] for row in words]
    c1 = [[int(w) for w in row[DEGREE:]] for row in words]
    known = [_evaluate(_symmetric_coefficients(row), root) for row in opened]
    key = [0] * DEGREE
    for i in range(DEGREE // 2):
        j = DEGREE - 1 - i
        a, b = ((c1[k][i], c1[k][j]) for k in (0, 1))
        left = [(known[k][i] - c0[k][i] - c0[k][j]) % MODULUS for k in (0, 1)]
        inverse = pow(a[0] * b[1] - a[1] * b[0], -1, MODULUS)
        key[i] = (left[0] * b[1] - left[1] * a[1]) * inverse % MODULUS
        key[j] = (a[0] * left[1] - b[0] * left[0]) * inverse % MODULUS
    return [c - MODULUS if c > MODULUS // 2 else c for c in _interpolate(key, root)]


def _symmetric_coefficients(opened: NDArray[np.float64]) -> list[int]:
    """Coefficients of m'(X) + m'(1/X), whose values at the roots are twice the opened real parts."""
    values = np.zeros(2 * DEGREE, np.complex128)
    exponent = 1
    for value in opened:
        values[exponent] = values[2 * DEGREE - exponent] = 2 * value * SCALE
        exponent = exponent * 3 % (2 * DEGREE)
    return [round(c) for c in np.fft.fft(values)[:DEGREE].real / DEGREE]


def _smallest_root() -> int:
    """The smallest primitive 16384th root of unity modulo the prime, which is SEAL's choice."""
    for base in range(2, 100):
        root = pow(base, (MODULUS - 1) // (2 * DEGREE), MODULUS)
        if pow(root, DEGREE, MODULUS) == MODULUS - 1:
            break
    square = root * root % MODULUS
    smallest = root
    for _ in range(DEGREE):
        root = root * square % MODULUS
        smallest = min(smallest, root)
    return smallest


def _bits_reversed(i: int, bits: int) -> int:
    return int(format(i, f"0{bits}b")[::-1], 2)


def _powers(root: int) -> list[int]:
    powers, bits = [1], DEGREE.bit_length() - 1
    for _ in range(DEGREE - 1):
        powers.append(powers[-1] * root % MODULUS)
    return [powers[_bits_reversed(i, bits)] for i in range(DEGREE)]


def _evaluate(coefficients: list[int], root: int) -> list[int]:
    """Negacyclic NTT; index i holds the value at root^(2*reversed(i)+1)."""
    a, powers, m, t = [c % MODULUS for c in coefficients], _powers(root), 1, DEGREE
    while m < DEGREE:
        t //= 2
        for i in range(m):
            w = powers[m + i]
            for j in range(2 * i * t, 2 * i * t + t):
                u, v = a[j], a[j + t] * w % MODULUS
                a[j], a[j + t] = (u + v) % MODULUS, (u - v) % MODULUS
        m *= 2
    return a


def _interpolate(values: list[int], root: int) -> list[int]:
    """Inverse of `_evaluate`."""
    a, powers, m, t = list(values), _powers(pow(root, -1, MODULUS)), DEGREE, 1
    while m > 1:
        m //= 2
        for i in range(m):
            w = powers[m + i]
            for j in range(2 * i * t, 2 * i * t + t):
                u, v = a[j], a[j + t]
                a[j], a[j + t] = (u + v) % MODULUS, (u - v) * w % MODULUS
        t *= 2
    shrink = pow(DEGREE, -1, MODULUS)
    return [c * shrink % MODULUS for c in a]
