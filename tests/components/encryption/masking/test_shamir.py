"""Against Lagrange over fractions, and exhaustively over a small prime."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from fractions import Fraction

import pytest

from components.encryption.masking.shamir import (
    PRIME,
    SHARE_BYTES,
    combine,
    deal,
    value_at,
    value_at_zero,
)

SECRETS = [bytes(32), b"\xff" * 32, bytes(range(32)), b"\x80" + bytes(31), bytes(31) + b"\x01"]


def test_the_modulus_is_a_prime() -> None:
    """Miller-Rabin to 64 bases: a composite passes one in 2^128."""
    assert PRIME == 2**256 + 297
    odd, power = PRIME - 1, 0
    while odd % 2 == 0:
        odd, power = odd // 2, power + 1
    generator = random.Random(5)
    for _ in range(64):
        x = pow(generator.randrange(2, PRIME - 1), odd, PRIME)
        squares = [x]
        for _ in range(power - 1):
            squares.append(squares[-1] * squares[-1] % PRIME)
        assert x == 1 or PRIME - 1 in squares


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret.hex()[:8])
@pytest.mark.parametrize(("threshold", "sites"), [(2, 2), (2, 3), (3, 5), (5, 5), (4, 6)])
def test_every_subset_as_large_as_the_threshold_gives_the_secret(
    secret: bytes, threshold: int, sites: int
) -> None:
    shares = deal(secret, threshold=threshold, points=range(1, sites + 1))
    assert {len(share) for share in shares.values()} == {SHARE_BYTES}
    for chosen in itertools.combinations(shares, threshold):
        assert combine({point: shares[point] for point in chosen}) == secret
    assert combine(shares) == secret


def test_a_threshold_as_large_as_a_federation() -> None:
    secret = bytes(range(32))
    shares = deal(secret, threshold=51, points=range(1, 101))
    assert combine({point: shares[point] for point in range(50, 101)}) == secret


@pytest.mark.parametrize(("threshold", "sites"), [(3, 5), (4, 4)])
def test_fewer_give_another_number(threshold: int, sites: int) -> None:
    secret = bytes(range(32))
    shares = deal(secret, threshold=threshold, points=range(1, sites + 1))
    for chosen in itertools.combinations(shares, threshold - 1):
        values = {point: int.from_bytes(shares[point], "big") for point in chosen}
        assert value_at_zero(values, PRIME) != int.from_bytes(secret, "big")


def test_the_value_at_zero_is_lagranges_over_fractions() -> None:
    """Over the rationals first, then reduced: another way than ours, which inverts modulo the prime."""
    generator = random.Random(1)
    for _ in range(50):
        values = {
            point: generator.randrange(PRIME)
            for point in generator.sample(range(1, 40), generator.randrange(1, 7))
        }
        total = Fraction(0)
        for point, value in values.items():
            factor = Fraction(1)
            for other in values:
                if other != point:
                    factor *= Fraction(-other, point - other)
            total += value * factor
        assert value_at_zero(values, PRIME) == total.numerator * pow(total.denominator, -1, PRIME) % PRIME


@pytest.mark.parametrize("prime", [5, 7])
@pytest.mark.parametrize("threshold", [2, 3, 4])
def test_fewer_shares_than_the_threshold_say_nothing(prime: int, threshold: int) -> None:
    """For every secret, each outcome of any t - 1 shares comes from exactly one choice of coefficients."""
    for points in itertools.combinations(range(1, prime), threshold - 1):
        for secret in range(prime):
            seen = Counter(
                tuple(value_at(point, (secret, *others), prime) for point in points)
                for others in itertools.product(range(prime), repeat=threshold - 1)
            )
            assert len(seen) == prime ** (threshold - 1)
            assert set(seen.values()) == {1}


@pytest.mark.parametrize("threshold", [2, 3])
def test_as_many_as_the_threshold_say_all(threshold: int) -> None:
    for secret, *others in itertools.product(range(5), repeat=threshold):
        values = {point: value_at(point, (secret, *others), 5) for point in range(1, threshold + 1)}
        assert value_at_zero(values, 5) == secret


def test_every_dealing_is_drawn_anew() -> None:
    dealings = [deal(bytes(32), threshold=2, points=(1, 2, 3)) for _ in range(200)]
    assert len({share for dealing in dealings for share in dealing.values()}) == 600
    # The mean of 200 uniform numbers below 1 lies within 6 deviations of 1/2: one in 5e8 fails.
    mean = sum(int.from_bytes(dealing[1], "big") / PRIME for dealing in dealings) / 200
    assert abs(mean - 0.5) < 6 / (12 * 200) ** 0.5


@pytest.mark.parametrize(
    ("secret", "threshold", "points"),
    [
        (bytes(31), 2, (1, 2, 3)),
        (bytes(33), 2, (1, 2, 3)),
        (b"", 2, (1, 2, 3)),
        (bytes(32), 1, (1, 2, 3)),
        (bytes(32), 0, (1, 2, 3)),
        (bytes(32), 4, (1, 2, 3)),
        (bytes(32), 2, (0, 1, 2)),
        (bytes(32), 2, (1, 2, 2)),
        (bytes(32), 2, (-1, 1, 2)),
        (bytes(32), 2, (1, 2, PRIME)),
        (bytes(32), 2, ()),
    ],
)
def test_what_cannot_be_dealt_is_refused(secret: bytes, threshold: int, points: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"are shared among|different and from 1"):
        deal(secret, threshold=threshold, points=points)


@pytest.mark.parametrize(
    "share",
    [b"", bytes(32), bytes(34), PRIME.to_bytes(33, "big"), b"\xff" * 33],
    ids=lambda share: share.hex()[:6],
)
def test_a_malformed_share_is_refused(share: bytes) -> None:
    shares = deal(bytes(range(32)), threshold=2, points=(1, 2, 3))
    with pytest.raises(ValueError, match="a share has 33 bytes"):
        combine({1: shares[1], 2: share})


def test_no_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        combine({})


def test_what_is_no_secret_is_told() -> None:
    """2^256 and the 296 numbers above it are below the prime and not 32 bytes."""
    values = {point: value_at(point, (2**256, 5), PRIME) for point in (1, 2)}
    with pytest.raises(ValueError, match="give no 32 bytes"):
        combine({point: value.to_bytes(33, "big") for point, value in values.items()})
