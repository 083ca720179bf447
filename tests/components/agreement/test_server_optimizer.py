from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement import server_optimizer
from components.agreement.charter import Charter
from components.agreement.server_optimizer import Committed, with_state
from components.errors import IntegrityError
from tests.components.agreement.signed_form import CHARTER, NOISED

PARENT = {
    "output.weight": np.array([[1, 2, 3], [-4, 0.5, 0]], np.float32),
    "output.bias": np.array([0.25, -8], np.float32),
}
SIZES = {"beta": 25, "alpha": 40, "gamma": 61}


def next_model(
    charter: Charter, parent: Committed, aggregate: NDArray[np.float64], *, round_number: int = 3
) -> dict[str, NDArray[np.generic]]:
    """With all three sites in the sum."""
    return server_optimizer.next_model(charter, parent, aggregate, round_number=round_number, members=3)


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
    @pytest.mark.parametrize("optimizer", ["", "Adam", "Average"])
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


GRADIENT = np.array([0.5, -0.25, 1, 0, 2, -1, 0.125, 4])
"""In the order of names: two biases first, then six weights."""


def flat(model: Committed, prefix: str = "") -> NDArray[np.float64]:
    names = [f"{prefix}{name}" for name in sorted(PARENT)]
    return np.concatenate([model[name].astype(np.float64).ravel() for name in names])


def by_the_paper(optimizer: str, rate: float, gradients: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Weights after several steps, in one plain vector: Polyak 1964; Kingma and Ba 2015, Algorithm 1."""
    weights = flat(PARENT)
    velocity, first, second = (np.zeros(8) for _ in range(3))
    for t, gradient in enumerate(gradients, 1):
        velocity = 0.9 * velocity + gradient
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        adam = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.99**t)) + 1e-8)
        step = {"sgd": gradient, "momentum": velocity, "adam": adam}[optimizer]
        weights = (weights - rate * step).astype(np.float32).astype(np.float64)
    return weights


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
class TestSteps:
    def test_of_gradient_sums_go_down_the_mean_gradient(self, optimizer: str) -> None:
        charter = replace(NOISED, server_optimizer=optimizer, server_learning_rate=0.25)
        model: Committed = with_state(optimizer, PARENT)
        gradients = [GRADIENT, -2 * GRADIENT, np.roll(GRADIENT, 3)]
        for gradient in gradients:
            # A noisy count is no whole number, and is taken as it is.
            model = next_model(charter, model, np.append(gradient * 12.375, 12.375))
        np.testing.assert_allclose(flat(model), by_the_paper(optimizer, 0.25, gradients), rtol=2e-7)

    def test_of_weighted_updates_go_along_the_mean_update(self, optimizer: str) -> None:
        """Hsu et al. 2019 and Reddi et al. 2021: the negative mean update is a gradient."""
        charter = replace(CHARTER, server_optimizer=optimizer, server_learning_rate=0.5)
        model: Committed = with_state(optimizer, PARENT)
        updates = [GRADIENT / 4, np.roll(GRADIENT, 1) / 8]
        for update in updates:
            model = next_model(charter, model, of_mean(update, 40))
        expected = by_the_paper(optimizer, 0.5, [-update for update in updates])
        np.testing.assert_allclose(flat(model), expected, rtol=2e-7)

    def test_keep_the_form_that_was_committed(self, optimizer: str) -> None:
        parent = with_state(optimizer, PARENT)
        charter = replace(NOISED, server_optimizer=optimizer)
        before = {name: values.copy() for name, values in parent.items()}
        found = next_model(charter, parent, np.append(GRADIENT, 3.0))
        assert {name: (values.shape, values.dtype) for name, values in found.items()} == {
            name: (values.shape, values.dtype) for name, values in parent.items()
        }
        assert all(np.array_equal(parent[name], before[name]) for name in parent)
        # sgd remembers nothing; the others begin with zeros and have something to remember now.
        state = {name for name in found if name not in PARENT}
        assert all(found[name].any() for name in state)
        assert not any(parent[name].any() for name in state)

    def test_need_the_state_they_left(self, optimizer: str) -> None:
        other = {"sgd": "adam", "momentum": "sgd", "adam": "momentum"}[optimizer]
        charter = replace(NOISED, server_optimizer=optimizer)
        with pytest.raises(IntegrityError, match=f"^the state of {optimizer} does not fit this model"):
            next_model(charter, with_state(other, PARENT), np.append(GRADIENT, 3.0))


class TestGradientSums:
    CHARTER = replace(NOISED, server_optimizer="sgd", server_learning_rate=1.0)

    @pytest.mark.parametrize("count", [0.999, 0.0, -17.5])
    def test_one_example_is_counted_at_the_least(self, count: float) -> None:
        """The count is noisy too: a small site's may be below one, and no step may turn or grow for it."""
        found = next_model(self.CHARTER, PARENT, np.append(GRADIENT, count))
        assert np.array_equal(flat(found), flat(next_model(self.CHARTER, PARENT, np.append(GRADIENT, 1.0))))
        assert np.array_equal(flat(found), flat(PARENT) - GRADIENT)

    def test_as_long_as_all_sites_gradients_and_noise_can_be_is_stepped_down(self) -> None:
        # 3 sites, 1000 examples each, C = 2.5; noise of deviation sigma C sqrt(1 + beta^2) sqrt(3 / 2) in
        # each of 9 coordinates, which is above 3 + 8 deviations with a probability below 1e-14.
        noise = 2.5 * 2.5 * np.sqrt(1 + 0.125**2) * np.sqrt(3 / 2) * (3 + 8)
        longest = 3 * 1000 * 2.5 + noise
        direction = np.full(8, 1 / np.sqrt(8))
        next_model(self.CHARTER, PARENT, np.append(direction * longest * 0.9999, 3000.0))
        with pytest.raises(IntegrityError, match="longer than clipped gradients and their noise can be"):
            next_model(self.CHARTER, PARENT, np.append(direction * longest * 1.0011, 3000.0))

    def test_average_takes_no_gradient(self) -> None:
        charter = replace(self.CHARTER, server_optimizer="average")
        with pytest.raises(IntegrityError, match=r"^server optimiser 'average' takes no gradient"):
            next_model(charter, PARENT, np.append(GRADIENT, 3.0))

    def test_without_noise_in_the_charter_nothing_is_committed(self) -> None:
        with pytest.raises(IntegrityError, match="sums of contributions without noise"):
            next_model(replace(self.CHARTER, privacy=None), PARENT, np.append(GRADIENT, 3.0))

    @pytest.mark.parametrize("length", [1, 7, 9])
    def test_of_another_length_are_refused(self, length: int) -> None:
        with pytest.raises(IntegrityError, match="has 9 values for this model"):
            next_model(self.CHARTER, PARENT, np.ones(length + 1))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("place", [0, 8])
    def test_that_are_not_finite_are_refused(self, place: int, value: float) -> None:
        aggregate = np.ones(9)
        aggregate[place] = value
        with pytest.raises(IntegrityError, match="the opened sum is not finite"):
            next_model(self.CHARTER, PARENT, aggregate)


@pytest.mark.parametrize(
    ("optimizer", "names"),
    [
        ("average", set()),
        ("sgd", set()),
        ("momentum", {"momentum"}),
        ("adam", {"momentum", "second", "steps"}),
    ],
)
def test_a_genesis_model_lies_beside_what_its_optimiser_begins_with(optimizer: str, names: set[str]) -> None:
    made = with_state(optimizer, PARENT)
    assert all(np.array_equal(made[name], PARENT[name]) for name in PARENT)
    state = {name: values for name, values in made.items() if name not in PARENT}
    assert {name.split(".")[1] for name in state} == names
    assert not any(values.any() for values in state.values())
