"""The discrete Gaussian (Canonne, Kamath and Steinke 2020, arXiv:2004.00010, algorithms 1 to 3), exactly.

P[X = x] = exp(-x^2 / 2 sigma^2) / sum over all integers y of exp(-y^2 / 2 sigma^2). Noise that came from
floating point could be told apart from its neighbours by its low bits (Mironov 2012); these integers
have exactly that law, as far as the source of random bytes is uniform.

Y is drawn from the discrete Laplace law of scale t = floor(sigma) + 1 and kept with probability
exp(-(|Y| - sigma^2/t)^2 / 2 sigma^2). All is decided by `exact_uniform`.
"""

from __future__ import annotations

import math
import os
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.errors import UsageError
from components.privacy.exact_uniform import RandomBytes, bernoulli_exp, geometric_exp, random_words

LEAST_VARIANCE: Final = Fraction(1, 2**64)
MOST_VARIANCE: Final = Fraction(2**84)
"""sigma of 2^42: a Laplace draw leaves int64 with a probability below exp(-2^20)."""
_BLOCK = 2**15
_SIGN = np.uint64(63)


def discrete_gaussian(
    variance: Fraction | float, size: int, random_bytes: RandomBytes = os.urandom
) -> NDArray[np.int64]:
    """Independent draws of N_Z(0, sigma^2).

    Args:
        variance: sigma^2, from 2^-64 to 2^84, taken exactly. The variance of the draws is at most this,
            and nearly this from sigma = 1 on.
        size: number of draws, from 0.
        random_bytes: source of randomness: the operating system's, but for tests.

    Returns:
        Shape (size,).

    Raises:
        UsageError: the variance is out of its range.
    """
    if not math.isfinite(variance) or not LEAST_VARIANCE <= variance <= MOST_VARIANCE:
        raise UsageError(
            f"variance must be from 2^-64 to 2^84, got {float(variance):g}: choose another sigma"
        )
    exact = Fraction(variance)
    drawn, blocks = 0, [np.empty(0, np.int64)]
    while drawn < size:
        # About two candidates a draw; a block's temporaries stay in the processor's cache.
        block = _block(exact, min(_BLOCK, 2 * (size - drawn) + 64), random_bytes)
        drawn += block.size
        blocks.append(block)
    return np.concatenate(blocks)[:size]


def _block(variance: Fraction, candidates: int, random_bytes: RandomBytes) -> NDArray[np.int64]:
    """The accepted of so many candidates, algorithm 3."""
    scale = math.isqrt(math.floor(variance)) + 1
    draws = _discrete_laplace(scale, candidates, random_bytes)
    magnitude = np.abs(draws)
    centre = variance / scale
    # centre <= sigma: with r = |distance| / sigma the error of the exponent is below (3.5 r^2 + 2 r) u,
    # which changes exp(-r^2/2) by less than 4u (u = 2^-53).
    distance = magnitude.astype(np.float64) - float(centre)
    exponents = distance * distance * float(1 / (2 * variance))

    def exact_exponent(position: int) -> Fraction:
        return (int(magnitude[position]) - centre) ** 2 / (2 * variance)

    return draws[bernoulli_exp(exponents, exact_exponent, random_bytes)]


def _discrete_laplace(scale: int, candidates: int, random_bytes: RandomBytes) -> NDArray[np.int64]:
    """The accepted of so many candidates, algorithm 2: P[Y = y] proportional to exp(-|y| / scale)."""
    words = random_words(random_bytes, candidates)
    # The low bits make a number below the scale, the highest the sign: they never overlap.
    mask = np.uint64((1 << (scale - 1).bit_length()) - 1)
    words = words[(words & mask) < np.uint64(scale)]
    remainder = (words & mask).astype(np.int64)

    def exact_exponent(position: int) -> Fraction:
        return Fraction(int(remainder[position]), scale)

    kept = bernoulli_exp(remainder / float(scale), exact_exponent, random_bytes)
    remainder, negative = remainder[kept], (words[kept] >> _SIGN).astype(np.bool_)
    magnitude = remainder + scale * geometric_exp(remainder.size, random_bytes)
    # Zero has one sign only, or it would be drawn twice as often as its probability.
    once = ~(negative & (magnitude == 0))
    draws: NDArray[np.int64] = magnitude[once]
    draws[negative[once]] *= -1
    return draws
