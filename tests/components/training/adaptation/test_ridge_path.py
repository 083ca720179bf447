"""The steps of one ridge after another: the first is Eq. 7, and none goes uphill."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from components.training.adaptation import ridge_path as path
from components.training.adaptation.held_out_choice import eigenbasis
from components.training.adaptation.ridge_path import STEP_SCALE, Rows, log_losses, ridge_path

CLASSES, WIDTH, COUNT = 4, 7, 90
Float64 = NDArray[np.float64]


def site(scale: float) -> tuple[Float64, NDArray[np.int64], Float64]:
    """Inputs beside ones, labels and the logits of a model that is as sure as the scale says."""
    generator = np.random.default_rng(3)
    inputs = np.hstack([generator.normal(size=(COUNT, WIDTH)), np.ones((COUNT, 1))])
    labels = (inputs @ generator.normal(size=(WIDTH + 1, CLASSES))).argmax(axis=1)
    return inputs, labels, scale * inputs @ generator.normal(size=(WIDTH + 1, CLASSES))


def solved(scale: float, ridges: list[float]) -> list[Float64]:
    """Δ transposed after each ridge, in the basis of the inputs."""
    inputs, labels, logits = site(scale)
    eigenvalues, vectors = eigenbasis(inputs.T @ inputs)
    rows = Rows(inputs=inputs @ vectors, eigenvalues=eigenvalues, labels=labels, logits=logits)
    return [vectors @ delta for delta in ridge_path(rows, ridges)]


@pytest.mark.parametrize("ridge", [0.1, 10.0, 1000.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
def test_the_first_step_is_along_equation_seven(
    ridge: float, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A multiple of the ridge regression of the residuals, that an independent solver finds."""
    monkeypatch.setattr(path, "STEPS", 1)
    inputs, labels, logits = site(scale)
    exponentials = np.exp(logits)
    residuals = np.eye(CLASSES)[labels] - exponentials / exponentials.sum(axis=1, keepdims=True)
    augmented = np.vstack([inputs, np.sqrt(ridge) * np.eye(WIDTH + 1)])
    target = np.vstack([STEP_SCALE * residuals, np.zeros((WIDTH + 1, CLASSES))])
    expected = np.linalg.lstsq(augmented, target, rcond=None)[0]
    (found,) = solved(scale, [ridge])
    length = float((found * expected).sum() / (expected**2).sum())
    assert length > 0
    np.testing.assert_allclose(found, length * expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0])
def test_the_log_loss_falls_with_every_weaker_ridge(scale: float) -> None:
    inputs, labels, logits = site(scale)
    losses = [log_losses(logits + inputs @ delta, labels).sum() for delta in solved(scale, [100, 10, 1, 0.1])]
    before = log_losses(logits, labels).sum()
    for loss in losses:
        assert loss < before
        before = loss


@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0])
def test_many_steps_end_where_nothing_pulls(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the minimum the residuals and the penalty balance."""
    monkeypatch.setattr(path, "STEPS", 300)
    inputs, labels, logits = site(scale)
    (delta,) = solved(scale, [5.0])
    exponentials = np.exp(logits + inputs @ delta)
    residuals = np.eye(CLASSES)[labels] - exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(inputs.T @ residuals, 5.0 / STEP_SCALE * delta, atol=1e-3)
