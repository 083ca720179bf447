"""Chosen ciphertexts whose decryption is the secret key of BFV, and what whoever has the key does with it.

A ciphertext (c0, c1) decrypts to round(p/q (c0 + c1 s)) modulo p. With c1 = round(q/p P) for a plaintext
polynomial P that is P s: slot by slot the slots of P times those of the key s. Whoever opens one such
"sum" without having added it itself gives the key away.

Everything here is written anew from the scheme: neither TenSEAL nor the product's arithmetic is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DEGREE = 8192
P = 70368743669761
Q = 1152921504606748673
Numbers = NDArray[np.object_]


def smallest_root() -> int:
    """The smallest primitive 16384th root of unity modulo p, which is SEAL's choice."""
    for base in range(2, 100):
        root = pow(base, (P - 1) // (2 * DEGREE), P)
        if pow(root, DEGREE, P) == P - 1:
            break
    square, smallest = root * root % P, root
    for _ in range(DEGREE):
        root = root * square % P
        smallest = min(smallest, root)
    return smallest


ROOT = smallest_root()


def exponents() -> NDArray[np.int64]:
    """Slot i of a polynomial is its value at ROOT to this power: two rows, by powers of 3 and of -3."""
    row = np.array([pow(3, i, 2 * DEGREE) for i in range(DEGREE // 2)])
    return np.concatenate([row, 2 * DEGREE - row])


def coefficients(slots: Sequence[int]) -> Numbers:
    """The polynomial with these slots, modulo p."""
    values = np.zeros(DEGREE, object)
    values[(exponents() - 1) // 2] = [int(slot) for slot in slots]
    inverse = pow(ROOT, -1, P)
    found: Numbers = _transform(values, inverse * inverse % P) * _powers(inverse) * pow(DEGREE, -1, P) % P
    return found


def slots_of(polynomial: Numbers) -> Numbers:
    """The inverse of `coefficients`."""
    values = _transform(polynomial * _powers(ROOT) % P, ROOT * ROOT % P)
    ordered: Numbers = values[(exponents() - 1) // 2]
    return ordered


def chosen_words(multiplier: Sequence[int], added: Sequence[int]) -> NDArray[np.uint64]:
    """The words, c0 and c1, of what decrypts in each slot to added + multiplier times the key's."""
    halves = [[(Q * int(c) + P // 2) // P % Q for c in coefficients(each)] for each in (added, multiplier)]
    return np.array([word for half in halves for word in half], np.uint64)


def key_from(known: Sequence[int], unknown: int = 8) -> NDArray[np.int64]:
    """The ternary key of which all slots but the last few are known.

    Each candidate for as many of its coefficients gives the missing slots; all others must be ternary then.

    Args:
        known: The first 8192 - `unknown` slots.
        unknown: How many are missing.

    Returns:
        Shape (8192,), each -1, 0 or 1.
    """
    partial = coefficients([*known, *[0] * unknown])
    units = []
    for missing in range(DEGREE - unknown, DEGREE):
        slots = [0] * DEGREE
        slots[missing] = 1
        units.append(coefficients(slots))
    weights = _inverse([[int(unit[row]) for unit in units] for row in range(unknown)])
    # Coefficient j = partial_j + sum_r influence_jr (guess_r - partial_r).
    checked = range(unknown, unknown + 8)
    influence = [
        [sum(int(units[k][j]) * weights[k][r] for k in range(unknown)) % P for r in range(unknown)]
        for j in checked
    ]
    for guess in itertools.product((0, 1, -1), repeat=unknown):
        away = [guess[r] - int(partial[r]) for r in range(unknown)]
        if all(
            (int(partial[j]) + sum(w * a for w, a in zip(row, away, strict=True))) % P in {0, 1, P - 1}
            for j, row in zip(checked, influence, strict=True)
        ):
            last = [sum(w * a for w, a in zip(row, away, strict=True)) % P for row in weights]
            whole = coefficients([*known, *last])
            return np.array([int(c) - P if c > P // 2 else int(c) for c in whole], np.int64)
    raise AssertionError("no ternary key has these slots")


def decrypt(words: NDArray[np.uint64], key: NDArray[np.int64]) -> Numbers:
    """The slots of an honest ciphertext under a recovered key, without any library."""
    c0, c1 = (words[:DEGREE].astype(object), words[DEGREE:])
    noisy = (c0 + _times_key(c1, key)) % Q
    return slots_of(np.array([(int(c) * P + Q // 2) // Q % P for c in noisy], object))


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


def _transform(values: Numbers, root: int) -> Numbers:
    """Values of a polynomial at 1, root, root^2, …; modulo p, by halves."""
    if len(values) == 1:
        return values
    even = _transform(values[::2], root * root % P)
    odd = _transform(values[1::2], root * root % P) * _powers(root, len(values) // 2) % P
    return np.concatenate([(even + odd) % P, (even - odd) % P])


def _powers(root: int, count: int = DEGREE) -> Numbers:
    found = [1]
    for _ in range(count - 1):
        found.append(found[-1] * root % P)
    return np.array(found, object)


def _inverse(matrix: list[list[int]]) -> list[list[int]]:
    """Of a square matrix modulo p, by elimination."""
    size = len(matrix)
    rows = [[*row, *[int(i == k) for k in range(size)]] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(r for r in range(column, size) if rows[r][column] % P)
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = pow(rows[column][column], -1, P)
        rows[column] = [value * scale % P for value in rows[column]]
        for r in range(size):
            if r != column and rows[r][column]:
                factor = rows[r][column]
                rows[r] = [(a - factor * b) % P for a, b in zip(rows[r], rows[column], strict=True)]
    return [row[size:] for row in rows]
