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
from components.agreement.noise_terms import NoiseTerms
from components.encryption import update_vector
from components.encryption.keys import initialise_keys
from components.encryption.update_vector import vector_length
from components.errors import BadDataError, CiphertextError, RefusedError, UsageError
from components.privacy.mechanism import SumMechanism
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


def to_vector(
    charter: Charter, values: NDArray[np.float64], num_examples: int, *, round_number: int
) -> NDArray[np.generic]:
    """Of a model that is one tensor."""
    shapes = {"output.weight": values.shape}
    return update_vector.to_vector(charter, values, num_examples, round_number=round_number, shapes=shapes)


def from_sum(charter: Charter, total: NDArray[np.generic], *, round_number: int = 2) -> NDArray[np.float64]:
    shapes = {"output.weight": (total.size - 1,)}
    return update_vector.from_sum(charter, total, round_number=round_number, shapes=shapes)


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
    found = to_vector(draft(protection, clipping_norm=20.0), values, 26, round_number=1)
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
    found = to_vector(charter, values, 26, round_number=1)
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
    sealed = [to_vector(charter, values, n, round_number=1).astype(np.int64) for values, n in members]
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
        assert (
            vector_length(charter, 1, {"w": (values,)})
            == to_vector(charter, np.zeros(values), 5, round_number=1).size
        )


@PROTECTIONS
@pytest.mark.parametrize("count", [0, -1, 1001])
def test_more_examples_than_the_charter_admits_are_bad_data(
    draft: Draft, protection: str, count: int
) -> None:
    with pytest.raises(BadDataError) as caught:
        to_vector(draft(protection), np.ones(3), count, round_number=1)
    assert "1000" in caught.value.disclosed
    assert str(count) not in caught.value.disclosed.replace("1000", "")


@PROTECTIONS
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_bad_data(draft: Draft, protection: str, value: float) -> None:
    with pytest.raises(BadDataError, match="not finite"):
        to_vector(draft(protection), np.array([1.0, value]), 5, round_number=1)


@PROTECTIONS
def test_the_update_is_left_as_it_is(draft: Draft, protection: str) -> None:
    values = np.full(9, 1e4)
    values.setflags(write=False)
    to_vector(draft(protection), values, 5, round_number=1)
    assert (values == 1e4).all()


def test_a_count_that_these_sites_cannot_have_is_no_sum(draft: Draft) -> None:
    with pytest.raises(CiphertextError):
        from_sum(draft("sealed"), np.array([1, 2, 3001, 0], np.int64))
    assert from_sum(draft("sealed"), np.array([1, 2, 3000, 0], np.int64))[-1] == 3000


def test_bounds_that_leave_too_few_bits_are_told(draft: Draft, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="max_examples"):
        to_vector(draft("sealed", max_examples=2**60), np.ones(3), 5, round_number=1)


class TestGradientSums:
    """Integers with the site's share of the noise in them; what is opened is sum and count."""

    NOISE = NoiseTerms(
        target_epsilon=8.0,
        delta=1e-5,
        public_population=50_000,
        first_round=2,
        noise_multipliers=(4.0, 0.5),
        count_weight=0.1,
        rows_per_unit=1,
    )
    D = 4000

    def charter(self, draft: Draft, **terms: Any) -> Charter:
        noised = {"algorithm": "fedsgd", "server_optimizer": "sgd", "values_per_slot": 1}
        return draft(
            "sealed", **{**noised, "clipping_norm": 2.0, "largest_value": 2.0, "privacy": self.NOISE, **terms}
        )

    def mechanism(self, sigma: float) -> SumMechanism:
        return SumMechanism(
            clipping_norm=2.0,
            noise_multiplier=sigma,
            dimensions=self.D,
            sites=3,
            min_sum_sites=3,
            colluding_sites=1,
            count_weight=0.1,
        )

    @pytest.mark.parametrize(("round_number", "sigma"), [(2, 4.0), (3, 0.5)])
    def test_each_site_adds_the_rounds_share_of_the_noise(
        self, draft: Draft, round_number: int, sigma: float
    ) -> None:
        charter = self.charter(draft)
        found = to_vector(charter, np.zeros(self.D), 26, round_number=round_number).astype(np.float64)
        found[-1] -= 0.1 * 2**20 * 26
        # sigma^2 Delta^2 / (u_min - t) with Delta = 2^20 sqrt(1 + 0.01) + sqrt(4000) + 1, about.
        share = sigma * (2**20 * math.sqrt(1.01) + math.sqrt(4000) + 1) / math.sqrt(2)
        assert self.mechanism(sigma).share_sigma == pytest.approx(share, rel=1e-5)
        # The deviation of 4001 draws is within 5 / sqrt(2 n) of the truth, 6 %.
        assert found.std() == pytest.approx(share, rel=0.06)
        assert abs(found.mean()) < 5 * share / math.sqrt(found.size)
        assert abs(found[-1]) < 8 * share

    def test_the_sum_of_all_sites_is_that_of_their_gradients_and_noise(self, draft: Draft) -> None:
        charter, generator = self.charter(draft), np.random.default_rng(5)
        sums = [generator.normal(0, 0.2, self.D) for _ in SITES]
        total = np.sum([to_vector(charter, each, 26, round_number=3) for each in sums], axis=0)
        found = from_sum(charter, total)
        assert found.shape == (self.D + 1,)
        deviation = self.mechanism(0.5).sum_deviation(3)
        assert np.abs(found[:-1] - np.sum(sums, axis=0)).max() < 8 * deviation
        # The count weighs beta C: its noise is that much larger in its own unit.
        assert abs(found[-1] - 3 * 26) < 8 * deviation / (0.1 * 2.0)

    def test_no_two_draws_are_alike(self, draft: Draft) -> None:
        one, other = (to_vector(self.charter(draft), np.zeros(9), 5, round_number=2) for _ in range(2))
        assert not np.array_equal(one, other)

    def test_the_length_is_one_more_for_the_count(self, draft: Draft) -> None:
        charter = self.charter(draft)
        for values in (1, 29, 4000):
            assert (
                vector_length(charter, 2, {"w": (values,)})
                == to_vector(charter, np.zeros(values), 5, round_number=2).size
                == values + 1
            )

    @pytest.mark.parametrize("round_number", [0, 1, 4, 100])
    def test_a_round_outside_the_schedule_is_refused(self, draft: Draft, round_number: int) -> None:
        with pytest.raises(RefusedError, match=f"^round {round_number} is outside the charter's schedule"):
            to_vector(self.charter(draft), np.zeros(9), 5, round_number=round_number)

    def test_a_sum_that_is_not_clipped_is_bad_data(self, draft: Draft) -> None:
        charter, longest = self.charter(draft), np.full(9, 5 * 2.0 / 3)
        to_vector(charter, longest, 5, round_number=2)
        for values in (longest * 1.001, np.full(9, math.nan)):
            with pytest.raises(BadDataError, match="clip each of them"):
                to_vector(charter, values, 5, round_number=2)

    def test_more_examples_than_the_charter_admits_are_bad_data(self, draft: Draft) -> None:
        with pytest.raises(BadDataError, match="1000"):
            to_vector(self.charter(draft), np.zeros(9), 1001, round_number=2)
