"""What is sealed of an update under each protection, and what the opened sum stands for."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from components.agreement.charter import Charter
from components.encryption.keys import initialise_keys
from components.encryption.update_vector import from_sum, to_vector, vector_length
from components.errors import BadDataError, CiphertextError, UsageError
from components.rounds.round_opening.opening import ModelShape
from tests.components.aggregation.three_sites import draft_charter

SITES = ("alpha", "beta", "gamma")
Draft = Callable[..., Charter]
PROTECTIONS = pytest.mark.parametrize("protection", ["none", "he", "sealed"])
# (2^22 - 1) // 3 and ((p - 1) / 2) // 3: what each of three sites may seal.
BOUND = {2: 1398101, 1: 35184371834880 // 3}


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Draft:
    keys_uri = f"{tmp_path_factory.mktemp('charters')}/keys"
    initialise_keys("small", (*SITES, "coordinator", "key-holder"), keys_uri=keys_uri)
    shape = ModelShape(features=2, hidden_units=0, classes=2, seed=1)

    def make(protection: str, **terms: Any) -> Charter:
        return draft_charter(keys_uri, protection, SITES, shape, **terms)

    return make


def clipped(values: NDArray[np.float64], norm: float, largest: float) -> NDArray[np.float64]:
    """min(1, C / L2 norm, M / largest magnitude) times the update, with exact sums."""
    if not values.any():
        return values
    return values * min(1.0, norm / math.hypot(*values), largest / float(np.abs(values).max()))


@pytest.mark.parametrize("protection", ["none", "he"])
@pytest.mark.parametrize("size", [0.001, 5.0, 400.0])
def test_in_the_open_it_is_the_weighted_update_and_the_count(
    draft: Draft, protection: str, size: float
) -> None:
    values = np.random.default_rng(3).normal(0, size, 40)
    found = to_vector(draft(protection, clipping_norm=20.0), values, 26)
    assert found.dtype == np.float64
    total: NDArray[np.float64] = found.astype(np.float64)
    np.testing.assert_allclose(total[:-1], 26 * clipped(values, 20.0, 10.0), rtol=1e-12)
    assert total[-1] == 26
    assert np.array_equal(from_sum(draft(protection), total), total)


@pytest.mark.parametrize("values_per_slot", [1, 2])
@pytest.mark.parametrize("size", [0.001, 5.0, 400.0])
def test_sealed_it_is_whole_numbers_of_the_charters_step(
    draft: Draft, values_per_slot: int, size: float
) -> None:
    charter = draft("sealed", values_per_slot=values_per_slot, clipping_norm=20.0)
    values = np.random.default_rng(3).normal(0, size, 40)
    found = to_vector(charter, values, 26)
    assert found.dtype == (np.int32 if values_per_slot == 2 else np.int64)
    bound = BOUND[values_per_slot]
    scale = bound / (1000 * 10.0)  # max_examples times largest_value
    exact = 26 * clipped(values, 20.0, 10.0) * scale
    assert np.abs(found[:-2].astype(np.float64) - exact).max() <= 0.5 + 1e-6
    assert int(found[-2]) + (bound + 1) * int(found[-1]) == 26


@pytest.mark.parametrize("values_per_slot", [1, 2])
@settings(max_examples=50)
@given(
    counts=st.lists(st.integers(1, 1000), min_size=1, max_size=3),
    updates=arrays.arrays(np.float64, (3, 7), elements=st.floats(-1e3, 1e3)),
)
def test_the_sum_stands_for_numerator_and_denominator_of_the_mean(
    draft: Draft, values_per_slot: int, counts: list[int], updates: NDArray[np.float64]
) -> None:
    charter = draft("sealed", values_per_slot=values_per_slot)
    members = list(zip(updates, counts, strict=False))
    sealed = [to_vector(charter, values, n).astype(np.int64) for values, n in members]
    total = np.add.reduce(np.stack(sealed), axis=0)
    found = from_sum(charter, total)
    assert found[-1] == sum(counts)
    exact = np.sum([n * clipped(values, 100.0, 10.0) for values, n in members], axis=0)
    # Half a step of rounding a site; a step is max_examples times largest_value by the bound.
    step = 1000 * 10.0 / BOUND[values_per_slot]
    assert np.abs(found[:-1] - exact).max() <= len(members) * step / 2 * (1 + 1e-4) + 1e-8


@PROTECTIONS
def test_its_length_follows_from_the_models(draft: Draft, protection: str) -> None:
    charter = draft(protection)
    for values in (1, 29, 70_000):
        assert vector_length(charter, values) == to_vector(charter, np.zeros(values), 5).size


@PROTECTIONS
@pytest.mark.parametrize("count", [0, -1, 1001])
def test_more_examples_than_the_charter_admits_are_bad_data(
    draft: Draft, protection: str, count: int
) -> None:
    with pytest.raises(BadDataError) as caught:
        to_vector(draft(protection), np.ones(3), count)
    assert "1000" in caught.value.disclosed
    assert str(count) not in caught.value.disclosed.replace("1000", "")


@PROTECTIONS
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_bad_data(draft: Draft, protection: str, value: float) -> None:
    with pytest.raises(BadDataError, match="not finite"):
        to_vector(draft(protection), np.array([1.0, value]), 5)


@PROTECTIONS
def test_the_update_is_left_as_it_is(draft: Draft, protection: str) -> None:
    values = np.full(9, 1e4)
    values.setflags(write=False)
    to_vector(draft(protection), values, 5)
    assert (values == 1e4).all()


def test_a_count_that_these_sites_cannot_have_is_no_sum(draft: Draft) -> None:
    with pytest.raises(CiphertextError):
        from_sum(draft("sealed"), np.array([1, 2, 3001, 0], np.int64))
    assert from_sum(draft("sealed"), np.array([1, 2, 3000, 0], np.int64))[-1] == 3000


def test_bounds_that_leave_too_few_bits_are_told(draft: Draft, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="max_examples"):
        to_vector(draft("sealed", max_examples=2**60), np.ones(3), 5)
