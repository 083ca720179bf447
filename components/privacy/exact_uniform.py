"""Comparing uniform random numbers with exp(-x) without error, fast in all but the closest cases.

A uniform number on [0, 1) is a sequence of bits. Its first 53 decide against a float64 estimate of
exp(-x) unless the two lie within `MARGIN`; then more bits are drawn and compared with rational bounds
of exp(-x) until they decide. So every outcome has exactly its probability, and about one comparison in
2^45 takes the slow way.

Error of the estimate, with u = 2^-53 and IEEE 754 addition and multiplication only (no library exp):
    x = k/32 + g, exact for float64 x, 0 <= g < 1/32.
    exp(-g) by Taylor's polynomial of degree 8: truncation g^9/9! < 2^-63, Horner's rule 16u (Higham,
    Accuracy and Stability of Numerical Algorithms, eq. 5.3), coefficients and their sum below 2u.
    exp(-k/32) from a table rounded to nearest, u; the product, u. Above x = 40 the estimate is 0 and
    exp(-x) < 2^-57.
In all below 21u for the x that is given. Callers' x may be off by what changes exp(-x) by up to 4u, and
25u < 2^-48 = `ESTIMATE_ERROR`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

RandomBytes = Callable[[int], bytes]
"""Gives so many random bytes, like `os.urandom`."""

ESTIMATE_ERROR: Final = 2.0**-48
"""Largest difference of an estimate and exp(-x)."""
MARGIN = 4 * ESTIMATE_ERROR
"""A uniform number this near to an estimate is decided exactly: the error, twice, and 53 bits' width."""

_STEP = 32
_LAST = 40
_WORD = 64
_GUARD = 32


def _table() -> NDArray[np.float64]:
    with localcontext() as context:
        context.prec = 40
        return np.array([float((-Decimal(k) / _STEP).exp()) for k in range(_LAST * _STEP + 1)])


_POWERS = _table()
_TAYLOR = tuple((-1.0) ** k / math.factorial(k) for k in range(9))
# e^-1, e^-2, ... in ascending order, between sentinels that no uniform number comes near.
_THRESHOLDS = np.concatenate([[-1.0], _POWERS[_STEP::_STEP][::-1], [2.0]])


class Uniform:
    """A uniform random number on [0, 1), its bits drawn as far as they are needed."""

    def __init__(self, word: int, random_bytes: RandomBytes) -> None:
        self._bits = word
        self._length = _WORD
        self._random_bytes = random_bytes

    def below_exp(self, exponent: Fraction) -> bool:
        """Whether it is less than exp(-exponent), for an exponent from 0: decided exactly."""
        while True:
            low, high = exp_bounds(exponent, self._length + _GUARD)
            if Fraction(self._bits + 1, 1 << self._length) <= low:
                return True
            if Fraction(self._bits, 1 << self._length) >= high:
                return False
            more = int.from_bytes(self._random_bytes(_WORD // 8), "little")
            self._bits = self._bits << _WORD | more
            self._length += _WORD


def exp_bounds(exponent: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Rational bounds of exp(-exponent), at most 2^-bits apart.

    exp(-x) = exp(-x/n)^n with n = ceil(x): between two partial sums of an alternating series.
    """
    if exponent > bits:
        return Fraction(0), Fraction(1, 1 << bits)
    parts = max(1, math.ceil(exponent))
    step = exponent / parts
    lower, upper = Fraction(0), Fraction(1)
    term = total = Fraction(1)
    order = 0
    # d(y^n) <= n dy for y <= 1.
    while upper - lower > Fraction(1, parts << bits):
        order += 1
        term *= -step / order
        total += term
        lower, upper = (total, upper) if order % 2 else (lower, total)
    return lower**parts, upper**parts


def random_words(random_bytes: RandomBytes, count: int) -> NDArray[np.uint64]:
    """Uniform 64-bit words, shape (count,)."""
    return np.frombuffer(random_bytes(count * _WORD // 8), dtype="<u8")


def estimated_exp(exponents: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(-x) for x from 0, within `ESTIMATE_ERROR`; see the module for the proof. Shape as given."""
    clipped = np.minimum(exponents, float(_LAST))
    index = (clipped * _STEP).astype(np.int64)
    rest = clipped - index / _STEP
    estimate = np.full_like(rest, _TAYLOR[-1])
    for coefficient in _TAYLOR[-2::-1]:
        estimate *= rest
        estimate += coefficient
    estimate *= _POWERS[index]
    estimate[exponents > _LAST] = 0.0
    return estimate


def bernoulli_exp(
    exponents: NDArray[np.float64],
    exact_exponent: Callable[[int], Fraction],
    random_bytes: RandomBytes = os.urandom,
) -> NDArray[np.bool_]:
    """Independent trials that succeed with probability exp(-x): exactly, for the exact exponents.

    Args:
        exponents: x, shape (n,), each so near to the exact one that exp(-x) is within 4 * 2^-53.
        exact_exponent: the exact x of a position.
        random_bytes: source of randomness.

    Returns:
        Shape (n,).
    """
    words = random_words(random_bytes, exponents.size)
    uniform = _leading_bits(words)
    estimate = estimated_exp(exponents)
    success = uniform < estimate
    for position in np.flatnonzero(np.abs(uniform - estimate) < MARGIN):
        number = Uniform(int(words[position]), random_bytes)
        success[position] = number.below_exp(exact_exponent(int(position)))
    return success


def geometric_exp(count: int, random_bytes: RandomBytes = os.urandom) -> NDArray[np.int64]:
    """Successes before the first failure of trials with probability exp(-1): P[V >= v] = exp(-v), exactly.

    Returns:
        Shape (count,), from 0. V is the number of v >= 1 with U < exp(-v), for one uniform U each.
    """
    words = random_words(random_bytes, count)
    uniform = _leading_bits(words)
    place = np.searchsorted(_THRESHOLDS, uniform, side="right")
    successes = (_THRESHOLDS.size - 1 - place).astype(np.int64)
    near = np.minimum(uniform - _THRESHOLDS[place - 1], _THRESHOLDS[place] - uniform) < MARGIN
    for position in np.flatnonzero(near):
        number = Uniform(int(words[position]), random_bytes)
        successes[position] = 0
        while number.below_exp(Fraction(int(successes[position]) + 1)):
            successes[position] += 1
    return successes


def _leading_bits(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
