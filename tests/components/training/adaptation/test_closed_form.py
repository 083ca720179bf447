"""The adaptation against an independent solver, on sites that differ and on sites that do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.errors import BadDataError
from components.training.adaptation.closed_form import Adaptation, fit_adaptation
from components.training.adaptation.held_out_choice import stratified_folds

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


@pytest.mark.parametrize("count", [60, 400, 1100])
def test_is_the_minimum_that_an_independent_solver_finds(count: int) -> None:
    """Of the log-loss with λ/4 · ‖w′ − α·w‖², by damped Newton steps with the whole Hessian."""
    weight, bias, (inputs, labels), _ = shifted_site(count, seed=1)
    adaptation = fit(weight, bias, (inputs, labels))
    assert adaptation.ridge_lambda is not None
    assert adaptation.kept_share is not None

    design = np.hstack([inputs, np.ones((count, 1))]).astype(np.float64)
    centre = adaptation.kept_share * np.hstack([weight, bias[:, None]]).astype(np.float64)
    expected = newton(design, labels, centre, adaptation.ridge_lambda / 2)
    found = np.hstack([weight + adaptation.weight_delta, (bias + adaptation.bias_delta)[:, None]])
    lowest = penalised(design, labels, centre, adaptation.ridge_lambda / 2, expected)
    # Three steps a ridge leave less than a thousandth of a nat a row.
    assert penalised(design, labels, centre, adaptation.ridge_lambda / 2, found) < lowest + 1e-3 * count
    assert penalised(design, labels, centre, adaptation.ridge_lambda / 2, found) > lowest - 1e-6 * count


def penalised(
    design: NDArray[np.float64],
    labels: NDArray[np.int64],
    centre: NDArray[np.float64],
    penalty: float,
    together: NDArray[np.floating],
) -> float:
    probabilities = softmax(design @ together.T)[np.arange(len(labels)), labels]
    return float(-np.log(probabilities).sum() + penalty / 2 * ((together - centre) ** 2).sum())


def newton(
    design: NDArray[np.float64], labels: NDArray[np.int64], centre: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    """The minimum of `penalised`, whose whole Hessian is of size classes times inputs."""
    together, (classes, width) = centre.copy(), centre.shape
    for _ in range(50):
        probabilities = softmax(design @ together.T)
        gradient = (probabilities - np.eye(classes)[labels]).T @ design + penalty * (together - centre)
        curvature = np.einsum("nc,cd->ncd", probabilities, np.eye(classes))
        curvature -= np.einsum("nc,nd->ncd", probabilities, probabilities)
        hessian = np.einsum("ncd,ni,nj->cidj", curvature, design, design, optimize=True)
        whole = hessian.reshape(classes * width, -1) + penalty * np.eye(classes * width)
        step, length = np.linalg.solve(whole, gradient.ravel()).reshape(centre.shape), 1.0
        here = penalised(design, labels, centre, penalty, together)
        while penalised(design, labels, centre, penalty, together - length * step) > here and length > 1e-9:
            length /= 2
        together = together - length * step
    return together


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
    # Whatever is fitted here is chance, falling with the rows: the worst of 40 seeds pays 3.7 / count.
    assert change < 5 / count


def test_where_nothing_helps_the_delta_is_exactly_zero() -> None:
    weight, bias = model(seed=0)
    adaptations = [fit(weight, bias, rows_of(weight, bias, 200, seed), seed) for seed in range(12)]
    zero = [adaptation for adaptation in adaptations if adaptation.ridge_lambda is None]
    # An improvement by chance of more than 1.5 standard errors has a probability of about one in fifteen.
    assert len(zero) >= 9
    for adaptation in zero:
        assert not adaptation.weight_delta.any()
        assert not adaptation.bias_delta.any()
        assert adaptation.step_scale is None
        assert adaptation.kept_share is None
        assert adaptation.holdout_log_loss_before is not None
        assert adaptation.holdout_log_loss_after == adaptation.holdout_log_loss_before


@pytest.mark.parametrize("seed", range(4))
def test_a_model_of_noise_costs_nothing(seed: int) -> None:
    """The loss is that of the site's rows alone: what is fitted to a model that says nothing."""
    weight, bias = model(seed)
    train, test = (rows_of(weight, bias, count, seed + count) for count in (1500, 4000))
    noise = np.random.default_rng(seed + 7).normal(0, 3, (CLASSES, WIDTH + 1)).astype(np.float32)
    noisy, noisy_bias = noise[:, :-1], noise[:, -1]
    adaptation = fit(noisy, noisy_bias, train)
    alone = fit(np.zeros_like(weight), np.zeros_like(bias), train)
    assert adaptation.kept_share is not None
    assert adaptation.kept_share < 1
    adapted = log_loss(noisy + adaptation.weight_delta, noisy_bias + adaptation.bias_delta, test)
    assert adapted == pytest.approx(log_loss(alone.weight_delta, alone.bias_delta, test), rel=0.05)


@pytest.mark.parametrize("deviation", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [300, 1500])
def test_is_no_worse_than_before_or_than_the_site_alone(count: int, seed: int, deviation: float) -> None:
    """With a global model that is right for the average site and has noise on every weight."""
    weight, bias, train, test = shifted_site(count, seed)
    noise = deviation * np.random.default_rng(seed).normal(size=(CLASSES, WIDTH + 1)).astype(np.float32)
    weight, bias = weight + noise[:, :-1], bias + noise[:, -1]
    adaptation = fit(weight, bias, train)
    alone = fit(np.zeros_like(weight), np.zeros_like(bias), train)
    adapted = accuracy(weight + adaptation.weight_delta, bias + adaptation.bias_delta, test)
    local = accuracy(alone.weight_delta, alone.bias_delta, test)
    # A share of 2,000 test rows has a standard error of about one point.
    assert adapted > max(accuracy(weight, bias, test), local) - 0.015


@given(st.integers(0, 2**32 - 1), st.integers(20, 300), st.floats(0, 2))
@settings(max_examples=60)
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
    folds = stratified_folds(classes, seed)
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
