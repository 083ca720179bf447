"""The adaptation against an independent solver, on sites that differ and on sites that do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.errors import BadDataError
from components.training.adaptation.closed_form import Adaptation, _stratified_folds, fit_adaptation

CLASSES, WIDTH = 5, 12
Float32 = NDArray[np.float32]
Rows = tuple[Float32, NDArray[np.int64]]


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def log_loss(weight: Float32, bias: Float32, rows: Rows) -> float:
    inputs, labels = rows
    return float(-np.log(softmax(inputs @ weight.T + bias)[np.arange(len(labels)), labels]).mean())


def accuracy(weight: Float32, bias: Float32, rows: Rows) -> float:
    inputs, labels = rows
    return float(((inputs @ weight.T + bias).argmax(axis=1) == labels).mean())


def model(seed: int) -> tuple[Float32, Float32]:
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    return weight, generator.normal(size=CLASSES).astype(np.float32)


def rows_of(weight: Float32, bias: Float32, count: int, seed: int) -> Rows:
    """Rows whose labels are drawn from the model's own probabilities: nothing is left to adapt."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(count, WIDTH)).astype(np.float32)
    cumulative = softmax(inputs @ weight.T + bias).cumsum(axis=1)
    labels = (generator.random((count, 1)) > cumulative).sum(axis=1)
    return inputs, np.minimum(labels, CLASSES - 1).astype(np.int64)


def shifted_site(count: int, seed: int) -> tuple[Float32, Float32, Rows, Rows]:
    """A global model, and rows of a site that names some things differently and is mostly of two classes."""
    weight, bias = model(seed)
    own_weight = weight + 0.7 * np.random.default_rng(seed + 1).normal(size=weight.shape).astype(np.float32)
    own_bias = bias + np.array([3, 3, 0, 0, 0], np.float32)
    train, test = (rows_of(own_weight, own_bias, size, seed + 2 + size) for size in (count, 2000))
    return weight, bias, train, test


def fit(weight: Float32, bias: Float32, rows: Rows, seed: int = 0) -> Adaptation:
    return fit_adaptation(weight, bias, *rows, seed=seed)


@pytest.mark.parametrize("count", [60, 400, 1500])
def test_is_the_ridge_solution_that_an_independent_solver_finds(count: int) -> None:
    weight, bias, (inputs, labels), _ = shifted_site(count, seed=1)
    adaptation = fit(weight, bias, (inputs, labels))
    assert adaptation.ridge_lambda is not None
    assert adaptation.step_scale is not None

    design = np.hstack([inputs, np.ones((count, 1))])
    residuals = np.eye(CLASSES)[labels] - softmax(inputs @ weight.T + bias)
    augmented = np.vstack([design, np.sqrt(adaptation.ridge_lambda) * np.eye(WIDTH + 1)])
    target = np.vstack([adaptation.step_scale * residuals, np.zeros((WIDTH + 1, CLASSES))])
    expected = np.linalg.lstsq(augmented, target, rcond=None)[0].T

    # Both sides are float64 until Δw is rounded to float32, whose unit roundoff is 6e-8.
    np.testing.assert_allclose(adaptation.weight_delta, expected[:, :-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(adaptation.bias_delta, expected[:, -1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [100, 2000])
def test_a_site_that_differs_does_better_on_fresh_rows(count: int, seed: int) -> None:
    weight, bias, train, test = shifted_site(count, seed)
    adaptation = fit(weight, bias, train)
    adapted = weight + adaptation.weight_delta, bias + adaptation.bias_delta
    assert log_loss(*adapted, test) < 0.8 * log_loss(weight, bias, test)
    assert accuracy(*adapted, test) > accuracy(weight, bias, test) + 0.05


def test_a_shift_of_labels_alone_is_found() -> None:
    """All classes but the first are five times rarer than the model believes."""
    weight, bias = model(seed=3)
    rarer = bias - np.log(5) * np.array([0, 1, 1, 1, 1])
    train, test = (rows_of(weight, rarer.astype(np.float32), size, size) for size in (2000, 4000))
    adaptation = fit(weight, bias, train)
    assert adaptation.bias_delta[0] > adaptation.bias_delta[1:].max()
    adapted = weight + adaptation.weight_delta, bias + adaptation.bias_delta
    best = log_loss(weight, rarer.astype(np.float32), test)
    assert log_loss(*adapted, test) - best < 0.5 * (log_loss(weight, bias, test) - best)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("count", [30, 150, 1200])
def test_where_the_global_model_is_right_adapting_does_no_harm(count: int, seed: int) -> None:
    weight, bias = model(seed)
    adaptation = fit(weight, bias, rows_of(weight, bias, count, seed + 100), seed)
    test = rows_of(weight, bias, 4000, seed + 200)
    change = log_loss(weight + adaptation.weight_delta, bias + adaptation.bias_delta, test) - log_loss(
        weight, bias, test
    )
    # Whatever is fitted here is chance, falling with the rows: the worst of 60 seeds pays 4.3 / count.
    assert change < 5 / count


def test_where_nothing_helps_the_delta_is_exactly_zero() -> None:
    weight, bias = model(seed=0)
    adaptations = [fit(weight, bias, rows_of(weight, bias, 200, seed), seed) for seed in range(12)]
    zero = [adaptation for adaptation in adaptations if adaptation.ridge_lambda is None]
    # An improvement by chance of more than one standard error has a probability of about one in six.
    assert len(zero) >= 6
    for adaptation in zero:
        assert not adaptation.weight_delta.any()
        assert not adaptation.bias_delta.any()
        assert adaptation.step_scale is None
        assert adaptation.holdout_log_loss_before is not None
        assert adaptation.holdout_log_loss_after == adaptation.holdout_log_loss_before


@given(st.integers(0, 2**32 - 1), st.integers(20, 300), st.floats(0, 2))
@settings(max_examples=60, deadline=None)
def test_the_held_out_rows_never_fare_worse(seed: int, count: int, difference: float) -> None:
    weight, bias = model(seed)
    other, other_bias = model(seed + 1)
    rows = rows_of(
        (weight + difference * other).astype(np.float32),
        (bias + difference * other_bias).astype(np.float32),
        count,
        seed,
    )
    adaptation = fit(weight, bias, rows, seed)
    if adaptation.holdout_log_loss_before is None:
        assert len(np.unique(rows[1])) == 1
    else:
        assert adaptation.holdout_log_loss_after is not None
        assert adaptation.holdout_log_loss_after <= adaptation.holdout_log_loss_before
        changed = bool(adaptation.weight_delta.any())
        assert changed == (adaptation.holdout_log_loss_after < adaptation.holdout_log_loss_before)


def test_below_a_thousand_rows_every_row_is_held_out_once() -> None:
    weight, bias, train, _ = shifted_site(300, seed=4)
    before = fit(weight, bias, train).holdout_log_loss_before
    assert before == pytest.approx(log_loss(weight, bias, train), rel=1e-6)


@pytest.mark.parametrize("labels", [np.zeros(0, np.int64), np.arange(19) % 2, np.full(200, 3)])
def test_too_little_to_learn_from_leaves_the_model_alone(labels: NDArray[np.int64]) -> None:
    weight, bias = model(seed=5)
    inputs = np.random.default_rng(0).normal(size=(len(labels), WIDTH)).astype(np.float32)
    adaptation = fit(weight, bias, (inputs, labels))
    assert adaptation.weight_delta.shape == (CLASSES, WIDTH)
    assert adaptation.bias_delta.shape == (CLASSES,)
    assert not adaptation.weight_delta.any()
    assert not adaptation.bias_delta.any()
    assert adaptation.ridge_lambda is adaptation.holdout_log_loss_before is None


def test_one_seed_gives_one_result_and_leaves_the_arguments_alone() -> None:
    weight, bias, (inputs, labels), _ = shifted_site(1200, seed=6)
    copies = weight.copy(), bias.copy(), inputs.copy(), labels.copy()
    first, second = (fit(weight, bias, (inputs, labels), seed=9) for _ in range(2))
    assert first.weight_delta.tobytes() == second.weight_delta.tobytes()
    assert first.holdout_log_loss_after == second.holdout_log_loss_after
    assert (
        fit(weight, bias, (inputs, labels), seed=10).holdout_log_loss_before != first.holdout_log_loss_before
    )
    assert (first.weight_delta.dtype.name, first.bias_delta.dtype.name) == ("float32", "float32")
    for array, copy in zip((weight, bias, inputs, labels), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_inputs_that_are_always_zero_keep_their_weights() -> None:
    """Units of a ReLU layer that never fire at this site."""
    weight, bias, (inputs, labels), _ = shifted_site(400, seed=7)
    inputs[:, :3] = 0
    adaptation = fit(weight, bias, (inputs, labels))
    np.testing.assert_allclose(adaptation.weight_delta[:, :3], 0, atol=1e-12)
    assert np.abs(adaptation.weight_delta[:, 3:]).max() > 0.1


@given(st.lists(st.integers(0, 6), min_size=1, max_size=120), st.integers(0, 2**32 - 1))
def test_every_fold_holds_a_fifth_of_every_class(labels: list[int], seed: int) -> None:
    classes = np.array(labels)
    folds = _stratified_folds(classes, seed)
    for held in [classes, *(classes[classes == label] for label in set(labels))]:
        members = folds if held is classes else folds[classes == held[0]]
        sizes = np.bincount(members, minlength=5)
        assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full(40, CLASSES)}, "0…4"),
        ({"labels": np.full(40, -1)}, "0…4"),
        ({"labels": np.zeros(39, np.int64)}, "do not fit"),
        ({"inputs": np.zeros((40, WIDTH + 1), np.float32)}, "do not fit"),
        ({"bias": np.zeros(CLASSES + 1, np.float32)}, "do not fit"),
        ({"inputs": np.full((40, WIDTH), np.nan, np.float32)}, "an input of the last layer is not a finite"),
        ({"weight": np.full((CLASSES, WIDTH), np.inf, np.float32)}, "a weight of the last layer is not"),
    ],
)
def test_refuses_what_does_not_fit(change: dict[str, NDArray[np.generic]], message: str) -> None:
    weight, bias = model(seed=8)
    arguments = {"weight": weight, "bias": bias, "inputs": np.zeros((40, WIDTH), np.float32)}
    with pytest.raises(BadDataError, match=message):
        fit_adaptation(**(arguments | {"labels": np.zeros(40, np.int64)} | change), seed=0)  # type: ignore[arg-type]
