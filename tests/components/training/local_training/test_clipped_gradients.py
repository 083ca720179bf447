"""Clipped sums against opacus, torch.func, finite differences, and the laws they must keep."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.artifacts.tensors import flatten, unflatten
from components.errors import BadDataError, IntegrityError, UsageError
from components.training import heads
from components.training.features import Examples
from components.training.local_training import clipped_gradients
from components.training.local_training.clipped_gradients import clipped_gradient_sum

N, FEATURES, CLASSES = 41, 9, 5
KINDS = {"linear": (0, False), "mlp": (7, False), "skip": (7, True)}
kinds = pytest.mark.parametrize("kind", KINDS)
Float64 = NDArray[np.float64]


def model(kind: str, seed: int = 1) -> heads.Head:
    generator = np.random.default_rng(seed)
    hidden_units, skip = KINDS[kind]
    like = heads.initial(FEATURES, hidden_units, CLASSES, 0, skip)
    return {name: generator.normal(0, 0.6, array.shape).astype(np.float32) for name, array in like.items()}


def examples(count: int = N, seed: int = 0) -> Examples:
    """Rows whose gradients are from a hundredth to ten times as long as the clipping norm of 1."""
    generator = np.random.default_rng(seed)
    sizes = np.exp(generator.uniform(-5, 2, size=(count, 1)))
    return Examples(
        features=(generator.normal(size=(count, FEATURES)) * sizes).astype(np.float32),
        labels=generator.integers(CLASSES, size=count),
    )


def part(rows: Examples, chosen: Any) -> Examples:
    return Examples(features=rows.features[chosen], labels=rows.labels[chosen])


def summed(head: heads.Head, rows: Examples, max_grad_norm: float = 1.0, **options: Any) -> Float64:
    return clipped_gradient_sum(head, rows, max_grad_norm=max_grad_norm, device="cpu", **options)


def per_example(head: heads.Head, rows: Examples) -> Float64:
    """Gradients of every example by torch.func, float64 (n, d), tensors in the order of their names."""
    import torch
    from torch.func import grad, vmap

    weights = {name: torch.tensor(array).double() for name, array in head.items()}

    def loss(w: dict[str, torch.Tensor], z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        deep = "hidden.weight" in w
        inputs = (w["hidden.weight"] @ z + w["hidden.bias"]).relu() if deep else z
        scores = w["output.weight"] @ inputs + w["output.bias"]
        if "skip.weight" in w:
            scores = scores + w["skip.weight"] @ z
        return torch.logsumexp(scores, 0) - (scores * y).sum()

    onehot = torch.tensor(np.eye(CLASSES)[rows.labels])
    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(weights, torch.tensor(rows.features).double(), onehot)
    return np.concatenate([gradients[name].numpy().reshape(len(onehot), -1) for name in sorted(head)], axis=1)


def clipped(gradients: Float64, max_grad_norm: float) -> Float64:
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    result: Float64 = gradients * np.minimum(1, max_grad_norm / np.maximum(norms, 1e-300))
    return result


class TestAgainstIndependentImplementations:
    @kinds
    @pytest.mark.parametrize("max_grad_norm", [0.01, 1.0, 5.0, 1e6])
    def test_torch_func(self, kind: str, max_grad_norm: float) -> None:
        head, rows = model(kind), examples()
        gradients = per_example(head, rows)
        norms = np.linalg.norm(gradients, axis=1)
        assert norms.min() < 1 < norms.max()
        expected = clipped(gradients, max_grad_norm).sum(axis=0)
        found = summed(head, rows, max_grad_norm)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())

    @kinds
    def test_grad_samples_of_opacus(self, kind: str) -> None:
        import torch
        from opacus import GradSampleModule

        from components.training.local_training.dp_sgd import _module

        head, rows = model(kind), examples()
        module = GradSampleModule(_module(head).double())
        scores = module(torch.tensor(rows.features).double().requires_grad_())
        torch.autograd.backward(torch.nn.functional.cross_entropy(scores, torch.tensor(rows.labels)))
        samples = {name.removeprefix("_module."): p.grad_sample for name, p in module.named_parameters()}
        flat = np.concatenate([samples[name].numpy().reshape(N, -1) for name in sorted(head)], axis=1)
        expected = clipped(flat, 1.0).sum(axis=0)
        np.testing.assert_allclose(summed(head, rows), expected, rtol=1e-6, atol=1e-9)

    @kinds
    def test_finite_differences(self, kind: str) -> None:
        """Unclipped, the sum is the gradient of the summed loss."""
        head, rows = model(kind), part(examples(), slice(0, 12))

        def loss(vector: Float64) -> float:
            w = unflatten(vector, head)
            z = rows.features.astype(np.float64)
            inputs = np.maximum(z @ w["hidden.weight"].T + w["hidden.bias"], 0) if len(w) > 2 else z
            scores = inputs @ w["output.weight"].T + w["output.bias"]
            if "skip.weight" in w:
                scores += z @ w["skip.weight"].T
            scores -= scores.max(axis=1, keepdims=True)
            losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(z)), rows.labels]
            return float(losses.sum())

        at, found = flatten(head), summed(head, rows, 1e9)
        for place in range(0, len(at), 3):
            ahead = np.eye(1, len(at), place)[0] * 1e-6
            slope = (loss(at + ahead) - loss(at - ahead)) / 2e-6
            # Central differences of a loss of magnitude 100 at steps of 1e-6: 1e-8 of roundoff each way.
            assert found[place] == pytest.approx(slope, abs=1e-6, rel=1e-6)

    def test_the_closed_form_at_zero(self) -> None:
        """From zero the error is 1/C − onehot: a gradient's norm is √((‖z‖² + 1)(1 − 1/C))."""
        head, rows = heads.initial(FEATURES, 0, CLASSES, 0), examples()
        error = 1 / CLASSES - np.eye(CLASSES)[rows.labels]
        z = rows.features.astype(np.float64)
        norms = np.sqrt(((z**2).sum(axis=1) + 1) * (1 - 1 / CLASSES))
        scaled = error * np.minimum(1, 0.7 / norms)[:, None]
        expected = np.concatenate([scaled.sum(axis=0), (scaled.T @ z).ravel()])
        np.testing.assert_allclose(summed(head, rows, 0.7), expected, atol=1e-12)


class TestLaws:
    @settings(max_examples=60)
    @given(
        st.sampled_from(sorted(KINDS)),
        st.integers(0, 2**32),
        st.floats(1e-3, 1e3),
        st.floats(-20, 20),
    )
    def test_one_example_more_changes_the_sum_by_its_clipped_gradient(
        self, kind: str, seed: int, max_grad_norm: float, log_size: float
    ) -> None:
        head, rows = model(kind, seed), examples(seed=seed)
        generator = np.random.default_rng(seed)
        extra = Examples(
            features=(generator.normal(size=(1, FEATURES)) * np.exp(log_size)).astype(np.float32),
            labels=generator.integers(CLASSES, size=1),
        )
        both = Examples(
            features=np.concatenate([rows.features, extra.features]),
            labels=np.concatenate([rows.labels, extra.labels]),
        )
        change = summed(head, both, max_grad_norm) - summed(head, rows, max_grad_norm)
        # What 41 other rows round to in float64 is the slack: 1e-12 of C is a millionth of a unit of 2⁻²⁰.
        assert np.linalg.norm(change) <= max_grad_norm * (1 + 1e-12)
        alone = np.linalg.norm(per_example(head, extra))
        # p − 1 of a row that is nearly sure keeps the digits that 1e-16 of its logits leave it.
        rounding = 1e-12 * (max_grad_norm + float(np.linalg.norm(extra.features)))
        assert np.linalg.norm(change) == pytest.approx(min(alone, max_grad_norm), rel=1e-9, abs=rounding)

    @kinds
    @pytest.mark.parametrize("grouped", [False, True])
    def test_the_order_of_rows_does_not_matter(self, kind: str, grouped: bool) -> None:
        head, rows = model(kind), examples()
        owners = np.arange(N) // 4 if grouped else None
        order = np.random.default_rng(3).permutation(N)
        found = summed(head, part(rows, order), units=None if owners is None else owners[order])
        np.testing.assert_allclose(found, summed(head, rows, units=owners), atol=1e-12)

    @kinds
    @pytest.mark.parametrize("cut", [0, 1, 17, N])
    def test_sums_of_parts_add_up(self, kind: str, cut: int) -> None:
        head, rows = model(kind), examples()
        parts = summed(head, part(rows, slice(0, cut))) + summed(head, part(rows, slice(cut, N)))
        np.testing.assert_allclose(summed(head, rows), parts, atol=1e-12)

    @kinds
    @pytest.mark.parametrize("batch_size", [1, 7, 40, 10_000])
    @pytest.mark.parametrize("grouped", [False, True])
    def test_the_batch_size_does_not_matter(self, kind: str, batch_size: int, grouped: bool) -> None:
        head, rows, owners = model(kind), examples(), np.arange(N) // 5 if grouped else None
        found = summed(head, rows, batch_size=batch_size, units=owners)
        np.testing.assert_allclose(found, summed(head, rows, units=owners), atol=1e-12)

    @kinds
    def test_the_same_arguments_give_the_same_bytes_and_stay_as_they_are(self, kind: str) -> None:
        head, rows, owners = model(kind), examples(), np.arange(N) // 2
        arrays: list[NDArray[np.generic]] = [*head.values(), rows.features, rows.labels, owners]
        for array in arrays:
            array.setflags(write=False)
        for units in (None, owners):
            assert summed(head, rows, units=units).tobytes() == summed(head, rows, units=units).tobytes()

    @kinds
    def test_nobody_adds_nothing(self, kind: str) -> None:
        head = model(kind)
        for units in (None, np.zeros(0, np.int64)):
            found = summed(head, examples(0), units=units)
            assert found.shape == flatten(head).shape
            assert not found.any()


class TestUnits:
    def by_torch_func(self, head: heads.Head, rows: Examples, units: NDArray[np.int64]) -> Float64:
        gradients = per_example(head, rows)
        sums = np.stack([gradients[units == unit].sum(axis=0) for unit in np.unique(units)])
        total: Float64 = clipped(sums, 1.0).sum(axis=0)
        return total

    @kinds
    @pytest.mark.parametrize("most", [1, 6, 256])
    def test_a_units_gradients_are_summed_and_then_clipped(
        self, kind: str, most: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Units of 1 to 20 rows in any order, above and below the size from which one is written out."""
        monkeypatch.setattr(clipped_gradients, "ROWS_OF_UNITS", most)
        head, rows = model(kind), examples(90)
        units = np.random.default_rng(5).choice([-7, 0, 3, 4, 10**12, *range(20, 40)], size=90)
        units[:20] = 3
        found = summed(head, rows, units=units, batch_size=8 if most == 1 else 4096)
        expected = self.by_torch_func(head, rows, units)
        np.testing.assert_allclose(found, expected, atol=1e-10)
        assert np.abs(found - summed(head, rows)).max() > 0.01

    @kinds
    def test_rows_of_their_own_are_units_of_their_own(self, kind: str) -> None:
        head, rows = model(kind), examples()
        found = summed(head, rows, units=np.random.default_rng(1).permutation(N))
        np.testing.assert_allclose(found, summed(head, rows), atol=1e-11)

    @settings(max_examples=30)
    @given(st.integers(0, 2**32), st.integers(1, 30), st.floats(-6, 6))
    def test_one_unit_more_changes_the_sum_by_the_clipping_norm_at_most(
        self, seed: int, count: int, log_size: float
    ) -> None:
        head, rows = model("skip", seed), examples(30 + count, seed)
        rows = Examples(features=rows.features * np.float32(np.exp(log_size)), labels=rows.labels)
        units = np.append(np.arange(30) // 3, np.full(count, 99))
        change = summed(head, rows, units=units) - summed(head, part(rows, slice(0, 30)), units=units[:30])
        assert np.linalg.norm(change) <= 1 + 1e-11

    def test_a_unit_whose_gradients_nearly_cancel_is_clipped_enough(self) -> None:
        """200 gradients of norm 20 whose sum is a hundredth: its norm from pairs has eight digits fewer."""
        generator = np.random.default_rng(2)
        z = np.repeat(generator.normal(size=(100, FEATURES)).astype(np.float32) * 9, 2, axis=0)
        z[1::2] += generator.normal(0, 3e-5, size=(100, FEATURES)).astype(np.float32)
        rows = Examples(features=z, labels=np.tile([0, 1], 100))
        head = heads.initial(FEATURES, 0, 2, 0)
        whole = summed(head, rows, 1e9)
        assert np.linalg.norm(whole) > 1e-4
        found = summed(head, rows, 1e-4, units=np.zeros(200, np.int64))
        assert np.linalg.norm(found) <= 1e-4
        cosine = found @ whole / np.linalg.norm(found) / np.linalg.norm(whole)
        assert cosine == pytest.approx(1, abs=1e-9)
        # Enough means too much here: 1e-12 of (Σ‖g‖)² is sixteen times the square of what is left.
        assert np.linalg.norm(found) > 1e-5

    def test_gradients_that_cancel_are_not_blown_up(self) -> None:
        head = heads.initial(FEATURES, 0, 2, 0)
        z = np.random.default_rng(0).normal(size=(1, FEATURES)).astype(np.float32)
        pair = Examples(features=np.repeat(z, 2, axis=0), labels=np.array([0, 1]))
        assert np.abs(summed(head, pair, 1e-3, units=np.zeros(2, np.int64))).max() < 1e-15


def test_no_gradient_of_an_example_is_written_out() -> None:
    """4,096 rows at 266,189 values each would be 8.7 GB."""
    head = heads.initial(384, 512, 77, 0, skip=True)
    generator = np.random.default_rng(0)
    rows = Examples(
        features=generator.normal(size=(4096, 384)).astype(np.float32),
        labels=generator.integers(77, size=4096),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = summed(head, rows)
    assert found.shape == (266_189,)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kilobytes


def _replaced(**change: NDArray[np.generic]) -> Callable[[], Float64]:
    rows = examples()
    arrays: Any = {"features": rows.features, "labels": rows.labels} | change
    return lambda: summed(model("mlp"), Examples(**arrays))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: summed(model("mlp"), examples(), 0.0), UsageError, "max_grad_norm must be a finite number"),
        (lambda: summed(model("mlp"), examples(), np.nan), UsageError, "max_grad_norm must be a finite"),
        (lambda: summed(model("mlp"), examples(), batch_size=0), UsageError, "batch_size must be at least 1"),
        (_replaced(labels=np.full(N, CLASSES)), BadDataError, "labels must lie in 0…4"),
        (_replaced(labels=np.full(N, -1)), BadDataError, "labels must lie in 0…4"),
        (_replaced(features=np.ones((N, 8), np.float32)), BadDataError, "features must be 9 wide"),
        (_replaced(features=np.ones((N - 1, 9), np.float32)), BadDataError, "as many rows as labels"),
        (_replaced(features=np.full((N, 9), np.nan, np.float32)), BadDataError, "a feature is not a finite"),
        (lambda: summed(model("mlp"), examples(), units=np.zeros(3, np.int64)), BadDataError, "as many rows"),
        (
            lambda: summed(model("mlp") | {"optimizer.steps": np.ones(1, np.float32)}, examples()),
            IntegrityError,
            "no head has just the tensors",
        ),
        (
            lambda: summed(model("mlp") | {"output.bias": np.full(CLASSES, np.inf, np.float32)}, examples()),
            IntegrityError,
            "the model is not finite",
        ),
    ],
)
def test_refuses_what_cannot_be_clipped(
    call: Callable[[], Float64], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
