"""Shamir's secret sharing (1979) of 32 bytes: any `threshold` shares give them, fewer tell nothing.

The secret is the value at zero of a polynomial of degree threshold - 1 over the integers modulo a prime,
whose other coefficients are uniform; a share is its value at a point. Every share is as long as another.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

PRIME: Final = 2**256 + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33


def deal(secret: bytes, *, threshold: int, points: Sequence[int]) -> dict[int, bytes]:
    """Draw a polynomial from the system's randomness and return its value at every point.

    Raises:
        ValueError: not 32 bytes, a threshold below 2 or above the points, or points that are not
            different and from 1.
    """
    if len(secret) != SECRET_BYTES or not 2 <= threshold <= len(points):
        raise ValueError(f"32 bytes are shared among {len(points)} points, 2 to all of which give them")
    if len(set(points)) != len(points) or not all(0 < point < PRIME for point in points):
        raise ValueError("the points of shares must be different and from 1: at zero lies the secret")
    others = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    coefficients = [int.from_bytes(secret, "big"), *others]
    return {point: value_at(point, coefficients, PRIME).to_bytes(SHARE_BYTES, "big") for point in points}


def combine(shares: Mapping[int, bytes]) -> bytes:
    """Return the secret that exactly as many shares as its threshold, by point, give.

    Raises:
        ValueError: a share has another size or is no number below the prime, or they give no 32 bytes.
    """
    values = {point: int.from_bytes(share, "big") for point, share in shares.items()}
    if any(len(share) != SHARE_BYTES for share in shares.values()) or max(values.values()) >= PRIME:
        raise ValueError(f"a share has {SHARE_BYTES} bytes, a number below 2^256 + 297")
    secret = value_at_zero(values, PRIME)
    if secret >> 8 * SECRET_BYTES:
        raise ValueError("these shares give no 32 bytes: they are not of one dealing")
    return secret.to_bytes(SECRET_BYTES, "big")


def value_at(point: int, coefficients: Sequence[int], prime: int) -> int:
    """The polynomial's value (Horner); coefficients from the constant one on."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % prime
    return value


def value_at_zero(values: Mapping[int, int], prime: int) -> int:
    """The value at zero of the polynomial of least degree through these values by point (Lagrange)."""
    total = 0
    for point, value in values.items():
        numerator, denominator = value, 1
        for other in values.keys() - {point}:
            numerator = numerator * other % prime
            denominator = denominator * (other - point) % prime
        total += numerator * pow(denominator, -1, prime)
    return total % prime
