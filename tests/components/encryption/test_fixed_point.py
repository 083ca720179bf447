from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from components.encryption.bfv.packing import Packing
from components.encryption.fixed_point import BLOCK_VALUES, FixedPoint
from components.errors import BadDataError, CiphertextError, UsageError

TWO_A_SLOT, ONE_A_SLOT, RING = 2**22 - 1, (70368743669761 - 1) // 2, 2**31 - 1


def fixed_point(**changes: Any) -> FixedPoint:
    values = {
        "sites": 3,
        "clipping_norm": 1.0,
        "largest_value": 0.25,
        "max_examples": 10_000,
        "largest_sum": TWO_A_SLOT,
    }
    return FixedPoint(**{**values, **changes})


def test_bound_and_scale_of_two_values_a_slot() -> None:
    point = fixed_point()
    assert point.bound == (2**22 - 1) // 3 == 1_398_101
    assert point.scale == 1_398_101 / 2500
    assert point.length(10) == 12
    assert point.absolute_error(3) == pytest.approx(1.5 * 2500 / 1_398_101, rel=1e-15)


def test_bound_of_one_value_a_slot() -> None:
    assert fixed_point(largest_sum=ONE_A_SLOT, sites=7).bound == (70368743669761 - 1) // 2 // 7


def test_no_sum_of_all_sites_leaves_its_field() -> None:
    for largest in (TWO_A_SLOT, ONE_A_SLOT, RING):
        for sites in (2, 3, 20, 1000):
            point = fixed_point(sites=sites, largest_sum=largest)
            assert largest - sites < sites * point.bound <= largest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sites": 1}, r"sites must be from 2 to 4095 where sums are at most 4194303, .* got 1"),
        ({"sites": 4096}, r"sites must be from 2 to 4095 .* got 4096: split the federation"),
        ({"sites": 10**11, "largest_sum": ONE_A_SLOT}, "sites must be from 2 to 34359738120 where"),
        ({"sites": 2**21, "largest_sum": RING}, "sites must be from 2 to 2097151 where"),
        ({"clipping_norm": 0.0}, "clipping_norm must be above 0 and finite, got 0.0"),
        ({"clipping_norm": math.nan}, "clipping_norm must be above 0 and finite, got nan"),
        ({"clipping_norm": math.inf}, "clipping_norm must be above 0 and finite, got inf"),
        ({"largest_value": 0.0}, "largest_value must be above 0"),
        ({"largest_value": math.nan}, "largest_value must be above 0"),
        ({"largest_value": 1.1}, "at most clipping_norm, 1.0, got 1.1"),
        ({"max_examples": 0}, "max_examples must be at least 1, got 0"),
        ({"sites": 4095, "max_examples": 1025**2}, "two digits of 4095 sites hold at most 1050624"),
        ({"largest_sum": ONE_A_SLOT, "max_examples": 2**52}, r"at most 2\^53 examples in all"),
        ({"largest_value": 1e-305}, "largest_value is 1e-305"),
        ({"largest_value": 1e305, "clipping_norm": 1e305}, r"largest_value is 1e\+305"),
    ],
)
def test_a_combination_that_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        fixed_point(**changes)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "changes", [{"sites": 4095}, {"sites": 2}, {"sites": 4095, "max_examples": 1025**2 - 1}]
)
def test_the_limits_themselves_are_allowed(changes: dict[str, Any]) -> None:
    assert fixed_point(**changes).bound >= 1024


def test_an_update_within_both_bounds_is_not_changed() -> None:
    values = np.array([0.25, -0.25, 0.0, 0.125])
    clipped = fixed_point().clip(values)
    np.testing.assert_array_equal(clipped, values)
    assert clipped is not values


def test_the_tighter_of_both_bounds_scales_the_whole_update() -> None:
    point = fixed_point(clipping_norm=1.0, largest_value=0.8)
    np.testing.assert_allclose(point.clip(np.array([3.0, 4.0])), [0.6, 0.8], rtol=1e-15)
    np.testing.assert_allclose(point.clip(np.array([0.0, -4.0])), [0.0, -0.8], rtol=1e-15)
    np.testing.assert_allclose(point.clip(np.full(100, 7.0)), np.full(100, 0.1), rtol=1e-14)


@pytest.mark.parametrize("size", [1e300, 5e-324, 1e-200])
def test_magnitudes_whose_squares_are_no_number_are_clipped_alike(size: float) -> None:
    point = fixed_point()
    clipped = point.clip(np.full(100, -size))
    # 100 equal values of norm 1 are 0.1 each, unless they are within the bounds as they are.
    np.testing.assert_allclose(clipped, -min(size, 0.1), rtol=1e-14)


updates = npst.arrays(
    np.float64, st.integers(1, 40), elements=st.floats(allow_nan=False, allow_infinity=False)
)


@given(updates)
def test_clipping_keeps_both_bounds_and_the_direction(values: NDArray[np.float64]) -> None:
    point = fixed_point()
    before = values.copy()
    clipped = point.clip(values)
    np.testing.assert_array_equal(values, before)
    assert np.abs(clipped).max() <= 0.25
    norm = math.sqrt(sum(Fraction(value) ** 2 for value in clipped.tolist()))
    assert norm <= 1 + 1e-12
    largest = int(np.abs(values).argmax())
    if values[largest] != 0:
        # Below 1e-300 a ratio of the two is rounded to few bits, or to zero.
        ratios = np.array([value / abs(values[largest]) for value in values])
        np.testing.assert_allclose(
            clipped / max(np.abs(clipped).max(), 5e-324), ratios, rtol=1e-12, atol=1e-7
        )


def test_what_is_encoded_is_the_clipped_update_rounded() -> None:
    values = np.random.default_rng(1).normal(0, 0.01, 3 * BLOCK_VALUES + 7)
    before = values.copy()
    for largest, kind in ((TWO_A_SLOT, np.int32), (ONE_A_SLOT, np.int64), (RING, np.int32)):
        point = fixed_point(largest_sum=largest)
        encoded = point.encode(values, 321)
        np.testing.assert_array_equal(encoded[:-2], np.rint(point.clip(values) * (321 * point.scale)))
        assert encoded.dtype == kind
        assert encoded.shape == (values.size + 2,)
        assert tuple(encoded[-2:]) == (321, 0)
    np.testing.assert_array_equal(values, before)


def test_halves_are_rounded_to_even() -> None:
    # 2048 sites leave 2^22 - 1 over 2048 = 2047 steps.
    point = fixed_point(sites=2048, clipping_norm=2047.0, largest_value=2047.0, max_examples=1)
    assert point.scale == 1
    np.testing.assert_array_equal(point.encode(np.array([0.5, 1.5, -2.5, -3.5]), 1)[:-2], [0, 2, -2, -4])


def test_the_largest_value_with_most_examples_is_exactly_the_bound() -> None:
    for sites in range(2, 400, 7):
        for largest in (TWO_A_SLOT, ONE_A_SLOT, RING):
            point = fixed_point(sites=sites, largest_sum=largest, largest_value=0.1, clipping_norm=0.3)
            encoded = point.encode(np.array([0.1, -0.1, 0.05]), 10_000)
            assert encoded[:2].tolist() == [point.bound, -point.bound]


@st.composite
def fixed_points(draw: st.DrawFn) -> FixedPoint:
    norm = draw(st.floats(1e-6, 1e6))
    return FixedPoint(
        sites=draw(st.integers(2, 200)),
        clipping_norm=norm,
        largest_value=norm * draw(st.floats(1e-3, 1.0)),
        max_examples=draw(st.integers(1, 10**8)),
        largest_sum=draw(st.sampled_from([TWO_A_SLOT, ONE_A_SLOT, RING])),
    )


@settings(max_examples=300)
@given(updates, fixed_points(), st.floats(0, 1))
def test_every_encoded_vector_can_be_packed(
    values: NDArray[np.float64], point: FixedPoint, used: float
) -> None:
    encoded = point.encode(values, max(1, int(point.max_examples * used)))
    if point.largest_sum != RING:
        packing = Packing(values_per_slot=1 if point.largest_sum == ONE_A_SLOT else 2, sites=point.sites)
        packing.require_packable(encoded)
    assert np.abs(encoded).max() <= point.bound


@settings(max_examples=200)
@given(st.data(), st.sampled_from([TWO_A_SLOT, ONE_A_SLOT, RING]))
def test_decoded_sums_are_within_the_stated_error_and_counts_exact(data: st.DataObject, largest: int) -> None:
    sites = data.draw(st.integers(2, 4095))
    members = data.draw(st.integers(1, min(sites, 12)))
    most = data.draw(st.integers(1, 1025**2 - 1))
    counts = data.draw(st.lists(st.integers(1, most), min_size=members, max_size=members))
    point = fixed_point(sites=sites, max_examples=most, largest_sum=largest)
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    encoded, exact = [], np.zeros(50)
    for count in counts:
        values = generator.normal(0, 0.2, 50)
        encoded.append(point.encode(values, count).astype(np.int64))
        exact += count * point.clip(values)
    decoded = point.decode(np.sum(encoded, axis=0))
    assert decoded.shape == (51,)
    assert decoded[-1] == sum(counts)
    # A tenth of a step for what float64 rounds here and there, as `exact` is rounded too.
    assert np.abs(decoded[:-1] - exact).max() <= point.absolute_error(members) + 0.1 / point.scale


def test_counts_use_both_digits() -> None:
    point = fixed_point(sites=4095, max_examples=1025**2 - 1)
    assert point.bound == 1024
    assert point.encode(np.zeros(1), 1025**2 - 1)[-2:].tolist() == [1024, 1024]
    assert point.encode(np.zeros(1), 1025)[-2:].tolist() == [0, 1]
    total = np.sum([point.encode(np.zeros(1), count) for count in (1025**2 - 1, 1024, 1025)], axis=0)
    assert point.decode(total.astype(np.int64)).tolist() == [0.0, 1025**2 - 1 + 1024 + 1025]


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_a_number_of_examples_beyond_the_charter_is_refused(count: int) -> None:
    with pytest.raises(BadDataError, match=rf"has {count} examples, allowed are 1 to 10000") as raised:
        fixed_point().encode(np.zeros(3), count)
    assert raised.value.disclosed == "the number of examples is not from 1 to 10000, the charter's limit"
    assert str(count) not in raised.value.disclosed.replace("10000", "").split()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, BLOCK_VALUES, 2 * BLOCK_VALUES])
def test_a_value_that_is_not_finite_is_refused(value: float, position: int) -> None:
    values = np.zeros(2 * BLOCK_VALUES + 1)
    values[position] = value
    for refuse in (fixed_point().clip, lambda array: fixed_point().encode(array, 1)):
        with pytest.raises(BadDataError, match="holds a value that is not finite") as raised:
            refuse(values)
        assert raised.value.disclosed == "the update is not finite"


def test_a_caller_that_passes_something_else_is_told() -> None:
    with pytest.raises(ValueError, match="one vector of float64, got float32"):
        fixed_point().encode(np.zeros(3, np.float32), 1)
    with pytest.raises(ValueError, match="one vector of float64"):
        fixed_point().clip(np.zeros((3, 1)))
    with pytest.raises(ValueError, match="a count of two digits"):
        fixed_point().decode(np.zeros(1, np.int64))


@pytest.mark.parametrize(
    "digits", [(0, 0), (-1, 0), (30_001, 0), (0, -1), (30_001 - 1_398_102, 1), (5, 2**50)]
)
def test_a_count_that_no_sites_can_have_is_refused(digits: tuple[int, int]) -> None:
    with pytest.raises(CiphertextError, match=r"^this sum does not open to a sum of updates: refused$"):
        fixed_point().decode(np.array([1, 2, *digits]))


def test_an_update_without_coordinates_still_counts() -> None:
    encoded = fixed_point().encode(np.zeros(0), 5).astype(np.int64)
    assert fixed_point().decode(encoded).tolist() == [5.0]


def test_encoding_takes_less_than_a_megabyte_beside_its_result() -> None:
    values = np.ones(2_000_000)
    tracemalloc.start()
    try:
        encoded = fixed_point().encode(values, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < encoded.nbytes + 2**20
