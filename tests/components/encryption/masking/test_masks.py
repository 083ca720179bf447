from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.encryption.masking.masks import BLOCK_SLOTS, PLAIN_MODULUS, Masks, accepted, uniform_block

P = 70368743669761
KEY = bytes(range(32))
REJECTING = {10_035: 4_499, 68_516: 860, 93_251: 3_110}
"""Blocks under `KEY` with a candidate that is not below p, and its position; found by search."""


def candidates(key: bytes, block: int) -> Iterator[int]:
    """The stream's candidates one after the other, from AES alone: counter after counter, word after word."""
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    for counter in itertools.count(block << 32):
        for word in struct.unpack("<2Q", aes.update(counter.to_bytes(16, "big"))):
            yield word % 2**46


def textbook_block(key: bytes, block: int) -> list[int]:
    below = (candidate for candidate in candidates(key, block) if candidate < P)
    return list(itertools.islice(below, 8192))


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_the_modulus_and_the_size_of_a_block_are_those_of_the_packing() -> None:
    assert (PLAIN_MODULUS, BLOCK_SLOTS) == (P, 8192)


@pytest.mark.parametrize("block", [0, 1, 2**32 - 1, 2**32, 2**64 + 5, 2**96 - 1])
def test_a_block_is_what_aes_gives(block: int) -> None:
    for some_key in (KEY, bytes(32), b"\xff" * 32):
        slots = uniform_block(some_key, block)
        assert slots.dtype == np.uint64
        assert slots.tolist() == textbook_block(some_key, block)


@pytest.mark.parametrize(("block", "position"), REJECTING.items())
def test_a_block_with_a_rejected_candidate_goes_on_in_its_own_stream(block: int, position: int) -> None:
    stream = list(itertools.islice(candidates(KEY, block), 8193))
    assert [i for i, candidate in enumerate(stream) if candidate >= P] == [position]
    assert uniform_block(KEY, block).tolist() == stream[:position] + stream[position + 1 :]


@given(data=st.data())
def test_accepts_the_first_candidates_below_the_modulus(data: st.DataObject) -> None:
    candidate = st.one_of(
        st.integers(0, P - 1), st.integers(P, 2**46 - 1), st.sampled_from([0, P - 1, P, 2**46 - 1])
    )
    wanted = data.draw(st.integers(1, 20))
    stream = data.draw(st.lists(candidate, min_size=wanted, max_size=60))
    # However many are rejected, enough follow.
    stream += list(range(wanted))
    position = wanted

    def more(count: int) -> NDArray[np.uint64]:
        nonlocal position
        position += count
        return np.array(stream[position - count : position], np.uint64)

    found = accepted(np.array(stream[:wanted], np.uint64), more)
    assert found.tolist() == [number for number in stream if number < P][:wanted]


def test_a_block_asks_for_nothing_it_does_not_need() -> None:
    def more(count: int) -> NDArray[np.uint64]:
        raise AssertionError(f"asked for {count} more")

    assert accepted(np.array([0, P - 1], np.uint64), more).tolist() == [0, P - 1]


def test_slots_are_uniform_modulo_the_prime() -> None:
    slots = np.concatenate([uniform_block(KEY, block) for block in range(25)])
    assert slots.size > 200_000
    assert slots.max() < P
    for bins, values in (
        (256, slots / P),
        (256, slots % np.uint64(256) / 256),
        (23, slots % np.uint64(23) / 23),
    ):
        counts = np.histogram(values, bins=bins, range=(0, 1))[0]
        expected = slots.size / bins
        # Chi-square: five deviations, sqrt(2 * degrees of freedom), above its mean.
        assert ((counts - expected) ** 2 / expected).sum() < bins - 1 + 5 * math.sqrt(2 * (bins - 1))
    # Mean and variance of the uniform distribution, within five standard errors.
    scaled = slots / P
    assert abs(scaled.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / slots.size)
    assert abs(scaled.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / slots.size)
    # No word has anything to do with the next: correlation within five standard errors of zero.
    assert abs(np.corrcoef(scaled[:-1], scaled[1:])[0, 1]) < 5 / math.sqrt(slots.size)


def test_blocks_and_streams_never_overlap() -> None:
    """Counters of blocks lie 2^32 apart: no word of one appears where another begins."""
    blocks = [uniform_block(some_key, block) for some_key in (KEY, key(1)) for block in (0, 1, 2, 2**33)]
    # Of 65,536 uniform words two are equal with probability 2^-15; under a fixed key none are.
    assert np.unique(np.concatenate(blocks)).size == 8 * 8192


@pytest.mark.parametrize(
    ("some_key", "block"),
    [(bytes(31), 0), (bytes(33), 0), (bytes(16), 0), (b"", 0), (bytes(32), -1), (bytes(32), 2**96)],
)
def test_other_keys_and_blocks_are_refused(some_key: bytes, block: int) -> None:
    with pytest.raises(ValueError, match="a key of 32 bytes and blocks from 0 to"):
        uniform_block(some_key, block)


@given(
    added=st.integers(0, 4),
    subtracted=st.integers(0, 4),
    block=st.integers(0, 2**40),
    slot=st.integers(0, 8191),
)
@settings(max_examples=25)
def test_masks_add_and_subtract_modulo_the_prime(added: int, subtracted: int, block: int, slot: int) -> None:
    plus = tuple(key(number) for number in range(added))
    minus = tuple(key(number) for number in range(100, 100 + subtracted))
    masks = Masks(added=plus, subtracted=minus)
    streams = [[int(word) for word in uniform_block(some_key, block)] for some_key in plus + minus]
    expected = (
        sum(stream[slot] for stream in streams[:added]) - sum(stream[slot] for stream in streams[added:])
    ) % P
    assert int(masks.block(block)[slot]) == expected
    slots = np.random.default_rng(block).integers(0, P, 8192, dtype=np.uint64)
    kept = slots.copy()
    assert int(masks.mask(slots, block)[slot]) == (int(slots[slot]) + expected) % P
    assert int(masks.unmask(slots, block)[slot]) == (int(slots[slot]) - expected) % P
    np.testing.assert_array_equal(masks.unmask(masks.mask(slots, block), block), slots)
    np.testing.assert_array_equal(slots, kept)


def test_masks_stay_below_the_modulus_at_the_bounds() -> None:
    masks = Masks(added=(key(0), key(1)), subtracted=(key(2),))
    for value in (0, P - 1):
        slots = np.full(8192, value, np.uint64)
        assert masks.mask(slots, 0).max() < P
        assert masks.unmask(slots, 0).max() < P


@pytest.mark.parametrize("sites", [2, 3, 10])
def test_pairwise_masks_cancel_in_the_sum_of_all(sites: int) -> None:
    pair = {(i, j): key(100 * i + j) for i, j in itertools.combinations(range(sites), 2)}
    everybody = [
        Masks(
            added=tuple(pair[i, j] for j in range(i + 1, sites)),
            subtracted=tuple(pair[j, i] for j in range(i)),
        )
        for i in range(sites)
    ]
    for block in (0, 7):
        blocks = np.array([masks.block(block) for masks in everybody], object)
        assert (blocks.sum(axis=0) % P == 0).all()
        # All of one site's masks but one do not: what is left is that one's stream.
        assert (blocks[1:].sum(axis=0) % P != 0).mean() > 0.99


def test_a_key_may_occur_once() -> None:
    for added, subtracted in (((KEY, KEY), ()), ((), (KEY, KEY)), ((KEY,), (key(1), KEY))):
        with pytest.raises(ValueError, match="streams occurs twice"):
            Masks(added=added, subtracted=subtracted)


@pytest.mark.parametrize("bad", [b"", bytes(31), bytes(33)])
def test_a_key_has_32_bytes(bad: bytes) -> None:
    for masks in ({"added": (bad,), "subtracted": ()}, {"added": (KEY,), "subtracted": (bad,)}):
        with pytest.raises(ValueError, match="has 32 bytes: one of"):
            Masks(**masks)


def test_keys_are_not_shown() -> None:
    shown = repr(Masks(added=(KEY,), subtracted=(key(1),)))
    assert shown == "Masks()"
