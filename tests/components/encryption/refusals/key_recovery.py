"""Chosen ciphertexts whose decryption is the secret key of BFV, and what whoever has the key does with it.

A ciphertext (c0, c1) decrypts to round(p/q (c0 + c1 s)) modulo p, coefficient by coefficient. With
c1 = 0.4 q/p X^k that is round(p/q c0 ± 0.4 s_j) with one coefficient s_j of the ternary key: nothing
where c0 is zero, and whether s_j is 1 where c0 is 0.3 q/p. Whoever opens such a "sum" without having
added it itself gives the key away, one bit a coefficient.

Everything here is written anew from the scheme: neither TenSEAL nor the product's arithmetic is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DEGREE = 8192
P = 70368743669761
Q = 1152921504606748673
Numbers = NDArray[np.object_]


def chosen_words(added: Sequence[int], *, asked: int, sign: int, shift: int) -> NDArray[np.uint64]:
    """The words, c0 and c1, of what decrypts to `added` and to bits about the key.

    Args:
        added: What all coefficients decrypt to besides, modulo p.
        asked: Of how many coefficients, the first ones, a bit is asked for; the others stay as they are.
        sign: 1 adds 1 where the coefficient of X^shift s is 1; -1 takes 1 off where it is -1.
        shift: k.
    """
    c0 = [(Q * int(value) + P // 2) // P % Q for value in added]
    for j in range(asked):
        c0[j] = (c0[j] + sign * 3 * Q // (10 * P)) % Q
    c1 = [0] * DEGREE
    c1[shift] = 4 * Q // (10 * P)
    return np.array([*c0, *c1], np.uint64)


def unshifted(coefficients: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    """Of X^shift s, modulo X^8192 + 1, the coefficients of s."""
    return np.concatenate([coefficients[shift:], -coefficients[:shift]])


def decrypt(words: NDArray[np.uint64], key: NDArray[np.int64]) -> Numbers:
    """The coefficients of an honest ciphertext under a recovered key, without any library."""
    c0, c1 = (words[:DEGREE].astype(object), words[DEGREE:])
    noisy = (c0 + _times_key(c1, key)) % Q
    return np.array([(int(c) * P + Q // 2) // Q % P for c in noisy], object)


def _times_key(polynomial: NDArray[np.uint64], key: NDArray[np.int64]) -> Numbers:
    """Modulo X^8192 + 1: by 15 bits at a time the floating-point transform is exact."""
    product = np.zeros(2 * DEGREE, object)
    spectrum = np.fft.rfft(key.astype(np.float64), 2 * DEGREE)
    for shift in range(0, 60, 15):
        piece = ((polynomial >> np.uint64(shift)) & np.uint64(0x7FFF)).astype(np.float64)
        part = np.rint(np.fft.irfft(np.fft.rfft(piece, 2 * DEGREE) * spectrum, 2 * DEGREE)).astype(np.int64)
        product = product + part.astype(object) * (1 << shift)
    folded: Numbers = product[:DEGREE] - product[DEGREE:]
    return folded
