"""Local DP-SGD: both engines against each other, their draws by moments, prices by other accountants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.artifacts.tensors import unflatten
from components.errors import BadDataError, UsageError
from components.training import heads
from components.training.features import Examples
from components.training.local_training.clipped_gradients import clipped_gradient_sum
from components.training.local_training.dp_sgd import (
    epsilon_spent,
    local_dp_update,
    noise_multiplier_for,
    opacus_batch,
)

N, FEATURES, CLASSES = 48, 9, 4
KINDS = {"linear": (0, False), "mlp": (6, False), "skip": (6, True)}
engines = pytest.mark.parametrize("engine", ["opacus", "closed_form"])
Update = dict[str, NDArray[np.float64]]


def examples(count: int = N) -> Examples:
    generator = np.random.default_rng(count)
    return Examples(
        features=(2 * generator.normal(size=(count, FEATURES))).astype(np.float32),
        labels=generator.integers(CLASSES, size=count),
    )


def model(kind: str) -> heads.Head:
    generator = np.random.default_rng(1)
    like = heads.initial(FEATURES, KINDS[kind][0], CLASSES, 0, KINDS[kind][1])
    return {name: generator.normal(0, 0.5, array.shape).astype(np.float32) for name, array in like.items()}


def update(head: heads.Head, rows: Examples, **change: Any) -> Update:
    arguments: dict[str, Any] = {
        "steps": 1,
        "sample_rate": 1.0,
        "learning_rate": 0.5,
        "max_grad_norm": 1.0,
        "noise_multiplier": 1e-9,
        "device": "cpu",
        "seed": 3,
    }
    return local_dp_update(head, rows, **(arguments | change))


@engines
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_on_all_rows_is_down_the_clipped_sum(engine: str, kind: str) -> None:
    head, rows = model(kind), examples()
    gradients = clipped_gradient_sum(head, rows, max_grad_norm=1.0, device="cpu")
    expected = unflatten(-0.5 / N * gradients, head)
    found = update(head, rows, engine=engine)
    assert found.keys() == head.keys()
    for name, values in found.items():
        assert values.dtype == np.float64
        # Weights of magnitude 1 in float32, and a clip factor of C/(norm + 1e-6) in opacus.
        np.testing.assert_allclose(values, expected[name], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_both_engines_take_the_same_steps(kind: str) -> None:
    head, rows = model(kind), examples()
    one, other = (update(head, rows, steps=12, engine=engine) for engine in ("opacus", "closed_form"))
    for name in head:
        assert np.abs(one[name]).max() > 0.02
        np.testing.assert_allclose(one[name], other[name], atol=1e-5)


@engines
def test_the_noise_has_the_stated_deviation(engine: str) -> None:
    head = heads.initial(300, 0, 20, 0)
    generator = np.random.default_rng(0)
    rows = Examples(
        features=generator.normal(size=(40, 300)).astype(np.float32), labels=generator.integers(20, size=40)
    )
    still, noisy = (
        update(head, rows, engine=engine, noise_multiplier=sigma, max_grad_norm=0.5) for sigma in (1e-9, 3.0)
    )
    noise = np.concatenate([(noisy[name] - still[name]).ravel() for name in head]) / 0.5 * 40
    # 6,020 draws: the deviation is known to a hundredth, the mean to a hundredth of it.
    assert noise.std() == pytest.approx(3.0 * 0.5, rel=0.05)
    assert abs(noise.mean()) < 0.06
    assert (noise**4).mean() / noise.var() ** 2 == pytest.approx(3, abs=0.4)


@engines
def test_rows_are_drawn_one_by_one_with_the_stated_rate(engine: str) -> None:
    """Each row has a feature of its own: what moved tells who was drawn; Poisson, so the number varies."""
    count = 64
    rows = Examples(features=np.eye(count, dtype=np.float32) * 4, labels=np.arange(count) % 2)
    head = heads.initial(count, 0, 2, 0)
    drawn = np.array(
        [
            np.abs(update(head, rows, sample_rate=0.25, engine=engine, seed=seed)["output.weight"][0]) > 1e-6
            for seed in range(60)
        ]
    )
    # 3,840 draws of probability 1/4: their mean deviates by 0.007; a count of 64 by 3.5.
    assert drawn.mean() == pytest.approx(0.25, abs=0.03)
    assert 2 < drawn.sum(axis=1).std() < 5
    assert np.abs(drawn.mean(axis=0) - 0.25).max() < 0.25


@engines
def test_a_batch_of_nobody_is_only_noise(engine: str) -> None:
    rows, head = examples(8), heads.initial(FEATURES, 0, CLASSES, 0)
    found = [
        update(head, rows, sample_rate=1 / 8, engine=engine, seed=seed)["output.bias"] for seed in range(20)
    ]
    # (7/8)⁸ = 0.34 of batches are empty; that none of 20 is has a probability of 2e-4.
    empty = [values for values in found if np.abs(values).max() < 1e-6]
    assert 1 <= len(empty) < 20
    assert all(np.isfinite(values).all() for values in found)


@engines
def test_seeds(engine: str) -> None:
    head, rows = model("mlp"), examples()
    options: dict[str, Any] = {"engine": engine, "noise_multiplier": 1.0, "sample_rate": 0.25, "steps": 3}
    first, again, other, fresh, fresher = (
        update(head, rows, **(options | {"seed": seed})) for seed in (5, 5, 6, None, None)
    )
    assert all(first[name].tobytes() == again[name].tobytes() for name in head)
    for one, two in ((first, other), (first, fresh), (fresh, fresher)):
        assert all(np.abs(one[name] - two[name]).min() > 0 for name in head)


@engines
def test_arguments_stay_as_they_are(engine: str) -> None:
    head, rows = model("skip"), examples()
    arrays: list[NDArray[np.generic]] = [*head.values(), rows.features, rows.labels]
    for array in arrays:
        array.setflags(write=False)
    update(head, rows, engine=engine, noise_multiplier=1.0)


def gaussian_delta(sigma: float, epsilon: float) -> float:
    """Balle and Wang 2018, Theorem 8: the δ of one Gaussian release of sensitivity 1."""
    from scipy.stats import norm

    first = norm.cdf(1 / (2 * sigma) - epsilon * sigma)
    return float(first - math.exp(epsilon) * norm.cdf(-1 / (2 * sigma) - epsilon * sigma))


class TestPrices:
    @pytest.mark.parametrize(("epsilon", "steps"), [(0.5, 1), (1.0, 20), (8.0, 5)])
    def test_without_sampling_the_closed_form_of_the_gaussian(self, epsilon: float, steps: int) -> None:
        sigma = noise_multiplier_for(epsilon, delta=1e-5, sample_rate=1.0, steps=steps)
        alone = sigma / math.sqrt(steps)
        assert gaussian_delta(alone, epsilon) <= 1e-5
        # No more noise than 1.5 percent above what is needed: a dear rival would be a weak one.
        assert gaussian_delta(alone / 1.015, epsilon) > 1e-5

    @pytest.mark.parametrize(("epsilon", "rate", "steps"), [(1.0, 0.25, 80), (8.0, 0.25, 240)])
    def test_with_sampling_what_another_accountant_says(
        self, epsilon: float, rate: float, steps: int
    ) -> None:
        import dp_accounting as accounting
        from dp_accounting import pld

        sigma = noise_multiplier_for(epsilon, delta=1e-5, sample_rate=rate, steps=steps)
        step = accounting.PoissonSampledDpEvent(rate, accounting.GaussianDpEvent(sigma))
        accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
        found = accountant.compose(accounting.SelfComposedDpEvent(step, steps)).get_epsilon(1e-5)
        assert found == pytest.approx(epsilon, rel=0.015)

    def test_what_is_spent_is_what_was_asked_for(self) -> None:
        sigma = noise_multiplier_for(2.0, delta=1e-5, sample_rate=0.25, steps=20)
        spent = epsilon_spent(sigma, sample_rate=0.25, steps=20, delta=1e-5)
        assert 1.97 < spent <= 2.0
        assert epsilon_spent(sigma, sample_rate=0.25, steps=40, delta=1e-5) > 2.5

    @pytest.mark.parametrize(
        "change", [{"target_epsilon": 0.0}, {"delta": 1.0}, {"sample_rate": 0.0}, {"steps": 0}]
    )
    def test_out_of_range_is_refused(self, change: dict[str, float]) -> None:
        arguments: dict[str, Any] = {"target_epsilon": 1.0, "delta": 1e-5, "sample_rate": 0.5, "steps": 4}
        with pytest.raises(UsageError, match="epsilon above 0, delta and sample_rate"):
            noise_multiplier_for(**(arguments | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"sample_rate": 0.3}, "sample_rate must be 1 over a whole number, got 0.3"),
        ({"sample_rate": 0.0}, "sample_rate must be 1 over a whole number"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0"),
        ({"max_grad_norm": np.inf}, "max_grad_norm must be a finite number above 0"),
        ({"noise_multiplier": 0.0}, "noise_multiplier must be a finite number above 0"),
    ],
)
def test_arguments_out_of_range_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        update(model("linear"), examples(), **change)


def test_rows_that_cannot_be_sampled_are_refused() -> None:
    with pytest.raises(BadDataError, match=r"at least 4 training rows are needed.*, got 3$"):
        update(model("linear"), examples(3), sample_rate=0.25)
    broken = Examples(features=np.full((8, FEATURES), np.nan, np.float32), labels=np.zeros(8, np.int64))
    with pytest.raises(BadDataError, match="a feature is not a finite number"):
        update(model("linear"), broken)


class TestWhatTheNoiseTells:
    def update(self, rows: int, **options: Any) -> NDArray[np.float64]:
        model = {"output.weight": np.zeros((20, 300), np.float32), "output.bias": np.zeros(20, np.float32)}
        examples = Examples(features=np.zeros((rows, 300), np.float32), labels=np.zeros(rows, np.int64))
        update = local_dp_update(
            model,
            examples,
            steps=4,
            sample_rate=0.05,
            learning_rate=1.0,
            max_grad_norm=1.0,
            noise_multiplier=10.0,
            device="cpu",
            engine="closed_form",
            **options,
        )
        return update["output.weight"]

    @pytest.mark.parametrize("rows", [0, 1, 39, 40, 400])
    def test_its_scale_is_that_of_a_batch_that_all_know(self, rows: int) -> None:
        """σ√T/b, from the operating system's randomness; 6,000 draws show it within a twentieth."""
        assert self.update(rows, expected_batch=50).std() == pytest.approx(10 * 2 / 50, rel=0.05)

    def test_otherwise_it_would_tell_the_number_of_rows(self) -> None:
        assert self.update(39).std() == pytest.approx(10 * 2 / 1, rel=0.05)
        assert self.update(40).std() == pytest.approx(10 * 2 / 2, rel=0.05)

    def test_no_two_draws_are_alike(self) -> None:
        assert not np.array_equal(self.update(9, expected_batch=5), self.update(9, expected_batch=5))

    @given(rows=st.integers(1, 10_000), whole=st.integers(1, 200))
    def test_opacus_never_draws_more_often_than_is_paid_for(self, rows: int, whole: int) -> None:
        batches = -(-rows // opacus_batch(rows, 1 / whole))
        assert 1 / batches <= 1 / whole + 1e-12 or rows < whole
