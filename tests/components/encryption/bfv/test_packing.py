from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.encryption.bfv.packing import BLOCK_SLOTS, PLAIN_MODULUS, VALUE_SLOTS, Packing
from components.errors import BadDataError, CiphertextError

P = 70368743669761
EITHER: tuple[Literal[1, 2], Literal[1, 2]] = (1, 2)


def textbook_pack(values: Sequence[int], values_per_slot: int) -> list[int]:
    """P = x0 + 2^23 x1 mod p, or x mod p: one Python integer at a time."""
    filled = list(values) + [0] * (8184 * values_per_slot - len(values))
    low, high = filled[:8184], filled[8184:] if values_per_slot == 2 else [0] * 8184
    return [(x0 + 2**23 * x1) % P for x0, x1 in zip(low, high, strict=True)] + [0] * 8


def textbook_unpack(slots: Sequence[int], values_per_slot: int) -> list[int]:
    centred = [slot - P if slot > P // 2 else slot for slot in slots[:8184]]
    if values_per_slot == 1:
        return centred
    low = [(number + 2**22) % 2**23 - 2**22 for number in centred]
    return low + [(number - x0) // 2**23 for number, x0 in zip(centred, low, strict=True)]


def is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def test_the_plain_modulus_is_the_largest_that_batches_below_46_bits() -> None:
    assert (PLAIN_MODULUS, BLOCK_SLOTS, VALUE_SLOTS) == (P, 8192, 8184)
    first = (2**46 - 2) // 16384 * 16384 + 1
    assert P % 16384 == 1
    assert is_prime(P)
    assert not any(is_prime(number) for number in range(first, P, -16384))


@pytest.mark.parametrize(
    ("values_per_slot", "sites", "bound"),
    [
        (2, 1, 4_194_303),
        (2, 3, 1_398_101),
        (2, 4, 1_048_575),
        (2, 20, 209_715),
        (2, 4_194_303, 1),
        (1, 1, 35_184_371_834_880),
        (1, 3, 11_728_123_944_960),
    ],
)
def test_the_bound_is_the_protocols(values_per_slot: Literal[1, 2], sites: int, bound: int) -> None:
    largest = 2**22 - 1 if values_per_slot == 2 else (P - 1) // 2
    packing = Packing(values_per_slot=values_per_slot, sites=sites)
    assert packing.bound == bound == largest // sites


@pytest.mark.parametrize(
    ("values_per_slot", "sites"), [(0, 3), (3, 3), (2, 0), (2, -1), (1, 0), (2, 2**22), (1, (P + 1) // 2)]
)
def test_other_packings_are_refused(values_per_slot: Any, sites: int) -> None:
    with pytest.raises(ValueError, match=r"1 or 2 values|between 1 and"):
        Packing(values_per_slot=values_per_slot, sites=sites)


@pytest.mark.parametrize("values_per_slot", EITHER)
def test_counts_blocks(values_per_slot: Literal[1, 2]) -> None:
    packing, block = Packing(values_per_slot=values_per_slot, sites=3), 8184 * values_per_slot
    assert packing.values_per_block == block
    lengths = (1, block - 1, block, block + 1, 2 * block, 10**8)
    assert [packing.blocks(length) for length in lengths] == [1, 1, 1, 2, 2, -(-(10**8) // block)]


@given(data=st.data())
@settings(max_examples=40)
def test_packs_and_unpacks_as_the_textbook_does(data: st.DataObject) -> None:
    packing = Packing(values_per_slot=data.draw(st.sampled_from(EITHER)), sites=data.draw(st.integers(1, 64)))
    block, bound = packing.values_per_block, packing.bound
    length = data.draw(st.one_of(st.integers(1, block), st.sampled_from([1, 8183, 8184, 8185, block])))
    length = min(length, block)
    values = np.random.default_rng(data.draw(st.integers(0, 2**32))).integers(
        -bound, bound, length, endpoint=True
    )
    edges = np.array(data.draw(st.lists(st.sampled_from([-bound, -1, 0, 1, bound]), max_size=9)), np.int64)
    values[: edges.size] = edges[:length]
    slots = packing.pack(values)
    assert slots.dtype == np.uint64
    assert slots.tolist() == textbook_pack(values.tolist(), packing.values_per_slot)
    opened = packing.unpack(slots)
    assert opened.dtype == np.int64
    assert opened.tolist() == textbook_unpack(slots.tolist(), packing.values_per_slot)
    assert opened.tolist() == values.tolist() + [0] * (block - length)


@given(data=st.data())
@settings(max_examples=30)
def test_sums_of_slots_are_sums_of_values(data: st.DataObject) -> None:
    """Every site at either bound, or anywhere between: modulo p, in Python's integers."""
    sites = data.draw(st.integers(1, 64))
    packing = Packing(values_per_slot=data.draw(st.sampled_from(EITHER)), sites=sites)
    bound, generator = packing.bound, np.random.default_rng(data.draw(st.integers(0, 2**32)))
    signs = data.draw(st.sampled_from([(1, 1), (-1, -1), (1, -1), (0, 0)]))
    total = [0] * 8192
    expected = np.zeros(packing.values_per_block, np.int64)
    for _ in range(sites):
        values = generator.integers(-bound, bound, packing.values_per_block, endpoint=True)
        # The first hundred values of either half of a slot: all sites at one bound.
        values[:100] = signs[0] * bound
        values[-8184:-8084] = signs[1] * bound
        expected += values
        total = [(a + b) % P for a, b in zip(total, packing.pack(values).tolist(), strict=True)]
    np.testing.assert_array_equal(packing.unpack(np.array(total, np.uint64)), expected)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_int32_packs_as_int64_does(dtype: type[np.signedinteger[Any]]) -> None:
    packing = Packing(values_per_slot=2, sites=1)
    values = np.random.default_rng(0).integers(-packing.bound, packing.bound, 16_368, endpoint=True)
    typed = values.astype(dtype)
    typed.setflags(write=False)
    packed = packing.pack(typed)
    assert packed.tolist() == textbook_pack(values.tolist(), 2)
    np.testing.assert_array_equal(typed, values)


def test_fields_that_borrow_from_each_other_unpack() -> None:
    packing = Packing(values_per_slot=2, sites=1)
    largest = 2**22 - 1
    values = np.zeros(16_368, np.int64)
    corners = [(a, b) for a in (-largest, -1, 0, 1, largest) for b in (-largest, -1, 0, 1, largest)]
    values[:25] = [a for a, _ in corners]
    values[8184:8209] = [b for _, b in corners]
    np.testing.assert_array_equal(packing.unpack(packing.pack(values)), values)


@pytest.mark.parametrize("values_per_slot", EITHER)
def test_a_sum_with_anything_in_the_zero_slots_is_refused_in_the_same_words(
    values_per_slot: Literal[1, 2],
) -> None:
    packing = Packing(values_per_slot=values_per_slot, sites=3)
    messages = set()
    for position in range(8184, 8192):
        for value in (1, P - 1, 2**23):
            slots = packing.pack(np.arange(100, dtype=np.int32))
            slots[position] = value
            with pytest.raises(CiphertextError) as caught:
                packing.unpack(slots)
            messages.add(str(caught.value))
    assert messages == {"this sum does not open to a sum of updates: refused"}


@pytest.mark.parametrize("values_per_slot", EITHER)
def test_no_value_beyond_the_bound_is_packable(values_per_slot: Literal[1, 2]) -> None:
    packing = Packing(values_per_slot=values_per_slot, sites=7)
    limits = np.iinfo(np.int32 if values_per_slot == 2 else np.int64)
    packing.require_packable(np.array([packing.bound, -packing.bound, 0], limits.dtype))
    for value in (packing.bound + 1, -packing.bound - 1, limits.max, limits.min):
        values: NDArray[Any] = np.zeros(20_000, limits.dtype)
        values[12_345] = value
        with pytest.raises(
            BadDataError, match=rf"^value 12345 of the update is beyond {packing.bound}, "
        ) as caught:
            packing.require_packable(values)
        assert str(abs(int(value))) not in str(caught.value)
        assert caught.value.disclosed == "the update is outside the range of sealed"


@pytest.mark.parametrize(
    "values",
    [np.ones(3), np.ones(3, np.int16), np.ones(3, np.uint32), np.ones((2, 2), np.int32), np.ones(0, int)],
)
def test_nothing_but_a_vector_of_integers_is_packable(values: Any) -> None:
    with pytest.raises(ValueError, match="one non-empty vector of int32 or int64"):
        Packing(values_per_slot=2, sites=3).require_packable(values)


@pytest.mark.parametrize("values_per_slot", EITHER)
def test_a_block_carries_no_more_than_it_can(values_per_slot: Literal[1, 2]) -> None:
    packing = Packing(values_per_slot=values_per_slot, sites=3)
    with pytest.raises(ValueError, match=f"a block carries {8184 * values_per_slot} values, got"):
        packing.pack(np.zeros(packing.values_per_block + 1, np.int64))
