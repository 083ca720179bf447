"""Masked words, against AES and sums of plain Python."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from components.encryption.masking.masks import Masks
from components.encryption.ring import (
    BLOCK_WORDS,
    LARGEST_SUM,
    MaskStreams,
    RingOpener,
    RingSealer,
    RingSummer,
)

CONTEXT = bytes(range(32))
HEADER_BYTES = 80
A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))


def keystream(key: bytes, words: int) -> list[int]:
    """AES-256-CTR from zero on, block by block through ECB, as little-endian words."""
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    content = b"".join(cipher.update(block.to_bytes(16, "big")) for block in range(-(-words // 4)))
    return [int.from_bytes(content[4 * word : 4 * word + 4], "little") for word in range(words)]


def sealed(values: NDArray[np.int32], masks: Masks, sites: int = 3) -> bytes:
    return b"".join(RingSealer("masked", CONTEXT, masks, sites=sites).seal(values))


def words_of(blob: bytes) -> list[int]:
    words: list[int] = np.frombuffer(blob[HEADER_BYTES:], "<u4").tolist()
    return words


def test_what_leaves_a_site_is_value_plus_streams_modulo_2_to_the_32() -> None:
    values = np.array([0, 1, -1, 700_000_000, -700_000_000, 5, 6], np.int32)
    found = words_of(sealed(values, Masks(added=(A, B), subtracted=(C,))))
    streams = zip(values.tolist(), keystream(A, 7), keystream(B, 7), keystream(C, 7), strict=True)
    assert found == [(value + a + b - c) % 2**32 for value, a, b, c in streams]


def test_streams_go_on_from_block_to_block() -> None:
    length = 2 * BLOCK_WORDS + 3
    found = words_of(sealed(np.zeros(length, np.int32), Masks(added=(A,), subtracted=())))
    assert found == keystream(A, length)


@settings(max_examples=50)
@given(
    st.integers(2, 6).flatmap(
        lambda sites: arrays.arrays(
            np.int32,
            st.tuples(st.just(sites), st.integers(1, 40)),
            elements=st.integers(-(LARGEST_SUM // sites), LARGEST_SUM // sites),
        )
    )
)
def test_any_vectors_in_range_open_to_their_exact_sum(vectors: NDArray[np.int32]) -> None:
    sites, length = vectors.shape
    own, pair = [os.urandom(32) for _ in range(sites)], os.urandom(32)
    masks = [Masks(added=(key,), subtracted=()) for key in own]
    masks[0] = Masks(added=(own[0], pair), subtracted=())
    masks[-1] = Masks(added=(own[-1],), subtracted=(pair,))
    blobs = [io.BytesIO(sealed(row.copy(), each, sites)) for row, each in zip(vectors, masks, strict=True)]
    total = b"".join(RingSummer("masked", CONTEXT).add(blobs, length))
    opened = RingOpener("masked", CONTEXT, Masks(added=tuple(own), subtracted=())).open(
        io.BytesIO(total), length
    )
    assert opened.tolist() == vectors.sum(axis=0, dtype=np.int64).tolist()


def test_four_bytes_a_value_and_a_header() -> None:
    for length in (1, 1_000, BLOCK_WORDS + 1):
        assert len(sealed(np.ones(length, np.int32), Masks(added=(A,), subtracted=()))) == 80 + 4 * length


def test_what_a_site_seals_looks_uniform_whatever_it_is() -> None:
    # Mean and deviation of 2^18 uniform words: within five standard errors.
    length = 1 << 18
    for value in (0, 1, -1, LARGEST_SUM // 3):
        masks = Masks(added=(os.urandom(32),), subtracted=())
        words = np.array(words_of(sealed(np.full(length, value, np.int32), masks)), np.float64) / 2**32
        assert abs(words.mean() - 0.5) < 5 / np.sqrt(12 * length)
        bits = np.unpackbits(np.frombuffer(sealed(np.full(length, value, np.int32), masks)[80:], np.uint8))
        assert abs(bits.mean() - 0.5) < 5 / (2 * np.sqrt(bits.size))


def test_a_sealer_seals_once_and_not_without_a_mask() -> None:
    with pytest.raises(ValueError, match="self-mask at the least"):
        RingSealer("smc", b"", Masks(added=(), subtracted=(A,)), sites=3)
    sealer = RingSealer("smc", b"", Masks(added=(A,), subtracted=()), sites=3)
    sealer.seal(np.ones(3, np.int32))
    with pytest.raises(RuntimeError, match="used twice"):
        sealer.seal(np.ones(3, np.int32))


@pytest.mark.parametrize("taken", [lambda streams: streams.add_to, lambda streams: streams.take_off])
def test_streams_are_not_rewound(
    taken: Callable[[MaskStreams], Callable[[NDArray[np.uint32]], None]],
) -> None:
    streams = MaskStreams(Masks(added=(A,), subtracted=(B,)))
    first, second = np.zeros(5, np.uint32), np.zeros(5, np.uint32)
    taken(streams)(first)
    taken(streams)(second)
    sign = 1 if taken(streams).__name__ == "add_to" else -1
    a, b = np.array(keystream(A, 10)), np.array(keystream(B, 10))
    assert [*first.tolist(), *second.tolist()] == (sign * (a - b) % 2**32).tolist()
