from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement.server_optimizer import next_model
from components.errors import IntegrityError
from tests.components.agreement.signed_form import CHARTER

PARENT = {
    "output.weight": np.array([[1, 2, 3], [-4, 0.5, 0]], np.float32),
    "output.bias": np.array([0.25, -8], np.float32),
}
SIZES = {"beta": 25, "alpha": 40, "gamma": 61}


def summed(updates: dict[str, NDArray[np.float64]], sizes: dict[str, int]) -> NDArray[np.float64]:
    """[Σ nᵢ·Δwᵢ, Σ nᵢ]."""
    total = np.sum([sizes[site] * updates[site] for site in sizes], axis=0)
    return np.append(total, float(sum(sizes.values())))


def of_mean(mean: NDArray[np.float64], num_examples: float = 1.0) -> NDArray[np.float64]:
    return np.append(mean * num_examples, num_examples)


class TestAverage:
    @given(
        values=st.lists(st.floats(-0.5, 0.5), min_size=24, max_size=24),
        sizes=st.lists(st.integers(1, 10**6), min_size=3, max_size=3),
    )
    def test_is_equation_6(self, values: list[float], sizes: list[int]) -> None:
        updates = {site: np.array(values[8 * k : 8 * k + 8]) for k, site in enumerate(SIZES)}
        counted = dict(zip(SIZES, sizes, strict=True))
        found = next_model(CHARTER, PARENT, summed(updates, counted))
        share = {site: size / sum(sizes) for site, size in counted.items()}
        # Names in their order: two biases first, then six weights, row by row.
        for place, (name, index) in enumerate(
            [("output.bias", (0,)), ("output.bias", (1,))]
            + [("output.weight", (row, column)) for row in range(2) for column in range(3)]
        ):
            mean = sum(share[site] * updates[site][place] for site in SIZES)
            expected = np.float32(float(PARENT[name][index]) + mean)
            # The sum is rounded in another order: one unit in the last place of float32.
            assert abs(float(found[name][index]) - expected) <= np.spacing(np.abs(expected)) + 1e-15

    def test_by_hand(self) -> None:
        aggregate = np.array([4, 8, -4, 0, 0.5, 0, 0, 1, 4], np.float64)
        found = next_model(CHARTER, PARENT, aggregate)
        assert found["output.bias"].tolist() == [1.25, -6]
        assert found["output.weight"].tolist() == [[0, 2, 3.125], [-4, 0.5, 0.25]]
        assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}

    def test_changes_nothing_it_is_given(self) -> None:
        aggregate = of_mean(np.full(8, 0.1), 3)
        before = {name: values.copy() for name, values in PARENT.items()}
        kept = aggregate.copy()
        next_model(CHARTER, PARENT, aggregate)
        assert np.array_equal(aggregate, kept)
        assert all(np.array_equal(before[name], PARENT[name]) for name in PARENT)

    def test_the_order_of_names_does_not_matter(self) -> None:
        aggregate = of_mean(np.arange(8) / 10, 5)
        backwards = dict(reversed(list(PARENT.items())))
        one, other = next_model(CHARTER, PARENT, aggregate), next_model(CHARTER, backwards, aggregate)
        assert all(np.array_equal(one[name], other[name]) for name in PARENT)

    def test_the_count_is_rounded_to_the_whole_number_it_is(self) -> None:
        """Approximate encryption opens 3.0004 where the sites sealed 3."""
        exact = next_model(CHARTER, PARENT, of_mean(np.full(8, 0.1), 3))
        aggregate = np.append(np.full(8, 0.1) * 3, 3.0004)
        assert all(
            np.array_equal(exact[name], next_model(CHARTER, PARENT, aggregate)[name]) for name in PARENT
        )


class TestRefusals:
    @pytest.mark.parametrize("optimizer", ["", "adam", "Average"])
    def test_another_optimiser(self, optimizer: str) -> None:
        with pytest.raises(IntegrityError, match=f"^server optimiser {optimizer!r} is not known"):
            next_model(replace(CHARTER, server_optimizer=optimizer), PARENT, of_mean(np.zeros(8)))

    @pytest.mark.parametrize("shape", [(0,), (3, 3), ()])
    def test_a_sum_that_is_no_vector(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(IntegrityError, match="an opened sum is one vector, got shape"):
            next_model(CHARTER, PARENT, np.ones(shape))

    @pytest.mark.parametrize("place", [0, 5, 8])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_sum_that_is_not_finite(self, place: int, value: float) -> None:
        aggregate = of_mean(np.zeros(8))
        aggregate[place] = value
        with pytest.raises(IntegrityError, match=r"^the opened sum is not finite: nothing was committed$"):
            next_model(CHARTER, PARENT, aggregate)

    @pytest.mark.parametrize("count", [0, 0.4, -1, -1e6, 1e-300])
    def test_a_sum_that_counts_nobody(self, count: float) -> None:
        with pytest.raises(IntegrityError, match=r"must count at least one example, got -?[0-9]+$"):
            next_model(CHARTER, PARENT, np.append(np.zeros(8), count))

    @pytest.mark.parametrize("length", [1, 7, 9, 80])
    def test_a_sum_of_another_length(self, length: int) -> None:
        with pytest.raises(IntegrityError, match="must have 8 values for this model"):
            next_model(CHARTER, PARENT, of_mean(np.zeros(length)))

    @pytest.mark.parametrize("direction", [np.eye(8)[3], np.ones(8) / np.sqrt(8), -np.eye(8)[0]])
    @pytest.mark.parametrize("num_examples", [1, 126])
    def test_a_mean_that_no_clipped_updates_have(
        self, direction: NDArray[np.float64], num_examples: int
    ) -> None:
        # A thousandth is left to what approximate encryption and rounding add.
        next_model(CHARTER, PARENT, of_mean(direction * CHARTER.clipping_norm * 1.0009, num_examples))
        with pytest.raises(
            IntegrityError, match=r"longer than the charter's clipping norm, 2\.5: a site sealed"
        ):
            next_model(CHARTER, PARENT, of_mean(direction * CHARTER.clipping_norm * 1.0011, num_examples))

    def test_the_mean_counts_and_not_the_sum(self) -> None:
        mean = np.eye(8)[0] * CHARTER.clipping_norm
        next_model(CHARTER, PARENT, of_mean(mean, 1000))

    def test_a_model_beyond_float32(self) -> None:
        large: Any = {"output.bias": np.full(8, np.finfo(np.float32).max, np.float32)}
        free = replace(CHARTER, clipping_norm=1e40, largest_value=1e40)
        with pytest.raises(IntegrityError, match=r"^the next model is outside the range of float32"):
            next_model(free, large, of_mean(np.full(8, 1e37)))
