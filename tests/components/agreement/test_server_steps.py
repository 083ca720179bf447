"""Server optimisers against torch's and against numbers by hand; the same bytes for every party."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement.server_steps import (
    SERVER_STEPS,
    STEPS,
    State,
    initial_state,
    joined,
    split,
    step,
)
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.errors import IntegrityError

PARENT = {
    "output.weight": np.array([[1, 2, 3], [-4, 0.5, 0]], np.float32),
    "output.bias": np.array([0.25, -8], np.float32),
}
PINNED = {
    "sgd": "23f2a136d16c3e546490a67518a5cb38587d8e860ea831a8bc211e48c8bd0856",
    "momentum": "3939d7eb1a969c059e09dfa7e0c9159b52756cae83312761a03728e88b9ea77c",
    "adam": "578ac1e3ed045b3b0f91f5a00a493e37220077506adfbdf35111966258d5f91e",
}
optimizers = pytest.mark.parametrize("optimizer", SERVER_STEPS)


def gradients(count: int) -> NDArray[np.float64]:
    return np.random.Generator(np.random.PCG64(5)).uniform(-1, 1, (count, 8))


def walk(optimizer: str, count: int, rate: float = 0.1) -> tuple[tensors.Tensors, State]:
    model, state = dict(PARENT), initial_state(optimizer, PARENT)
    for gradient in gradients(count):
        model, state = step(optimizer, rate, model, gradient, state)
    return model, state


@optimizers
def test_is_the_optimiser_of_torch(optimizer: str) -> None:
    import torch

    weights = {name: torch.tensor(PARENT[name]).double().requires_grad_() for name in sorted(PARENT)}
    chosen: torch.optim.Optimizer
    if optimizer == "adam":
        chosen = torch.optim.Adam(weights.values(), lr=0.1, betas=(0.9, 0.99), eps=1e-8)
    else:
        chosen = torch.optim.SGD(weights.values(), lr=0.1, momentum=0.9 if optimizer == "momentum" else 0)
    model, state = dict(PARENT), initial_state(optimizer, PARENT)
    for gradient in gradients(30):
        for name, values in tensors.unflatten(gradient, PARENT).items():
            weights[name].grad = torch.tensor(values)
        chosen.step()
        model, state = step(optimizer, 0.1, model, gradient, state)
        for name in PARENT:
            # Ours is rounded to float32 every round, torch's runs on in float64: 30 half units of 2⁻²¹.
            np.testing.assert_allclose(model[name], weights[name].detach().numpy(), atol=1e-5)


def test_by_hand() -> None:
    gradient = np.array([1, -2, 0.5, 0, 4, 1, 1, -1], np.float64)
    model, state = step("sgd", 0.5, PARENT, gradient, {})
    assert state == {}
    assert model["output.bias"].tolist() == [-0.25, -7]
    assert model["output.weight"].tolist() == [[0.75, 2, 1], [-4.5, 0, 0.5]]

    model, state = step("momentum", 0.5, PARENT, gradient, initial_state("momentum", PARENT))
    assert model["output.bias"].tolist() == [-0.25, -7]
    model, state = step("momentum", 0.5, model, np.zeros(8), state)
    assert state["optimizer.momentum.output.bias"].tolist() == [0.9, -1.8]
    assert model["output.bias"].tolist() == pytest.approx([-0.7, -6.1])


def test_adams_first_step_is_the_learning_rate_whatever_the_gradient() -> None:
    """m/(1 − 0.9) = g and √(v/(1 − 0.99)) = |g|."""
    gradient = np.array([1e-3, -2, 50, 1e4, 4, -1, 1, -1e-2])
    model, state = step("adam", 0.25, PARENT, gradient, initial_state("adam", PARENT))
    moved = tensors.flatten(PARENT) - tensors.flatten(model)
    np.testing.assert_allclose(moved, 0.25 * np.sign(gradient), rtol=2e-5)
    assert state[STEPS].tolist() == [1]
    assert state["optimizer.second.output.bias"].tolist() == pytest.approx([1e-8, 0.04])


def test_adam_on_the_negative_mean_update_is_fedadam() -> None:
    """Reddi et al. 2021, Algorithm 2: x + η·m/(√v + τ) of Δ, with the corrections of Kingma and Ba."""
    update = gradients(1)[0]
    m, v = 0.1 * update, 0.01 * update**2
    expected = tensors.flatten(PARENT) + 0.3 * (m / 0.1) / (np.sqrt(v / 0.01) + 1e-8)
    model, _ = step("adam", 0.3, PARENT, -update, initial_state("adam", PARENT))
    np.testing.assert_allclose(tensors.flatten(model), expected, rtol=1e-6)


@optimizers
def test_the_bytes_do_not_change_with_machines_or_versions(optimizer: str) -> None:
    """Parties compare digests: those of 25 steps are pinned."""
    model, state = walk(optimizer, 25)
    assert digest(tensors.encode(joined(model, state))) == PINNED[optimizer]


@optimizers
@given(st.permutations(sorted(PARENT)))
def test_the_order_of_names_does_not_matter(optimizer: str, order: list[str]) -> None:
    parent = {name: PARENT[name] for name in order}
    state = initial_state(optimizer, PARENT)
    for gradient in gradients(2):
        one, other = (
            step(optimizer, 0.1, PARENT, gradient, state),
            step(optimizer, 0.1, parent, gradient, dict(reversed(state.items()))),
        )
        assert tensors.encode(joined(*one)) == tensors.encode(joined(*other))


@optimizers
def test_arguments_stay_as_they_are(optimizer: str) -> None:
    model, state = walk(optimizer, 2)
    gradient = gradients(1)[0]
    for array in (*model.values(), *state.values(), gradient):
        array.setflags(write=False)
    after, remembered = step(optimizer, 0.1, model, gradient, state)
    assert after.keys() == model.keys()
    assert remembered.keys() == state.keys()
    assert all(array.dtype == np.float32 for array in after.values())
    assert all(array.dtype == np.float64 for array in remembered.values())


class TestState:
    def test_names_shapes_and_zeros(self) -> None:
        assert initial_state("sgd", PARENT) == {}
        momentum = {"optimizer.momentum.output.bias": (2,), "optimizer.momentum.output.weight": (2, 3)}
        second = {"optimizer.second.output.bias": (2,), "optimizer.second.output.weight": (2, 3)}
        for optimizer, expected in (
            ("momentum", momentum),
            ("adam", momentum | second | {"optimizer.steps": (1,)}),
        ):
            state = initial_state(optimizer, PARENT)
            assert {name: array.shape for name, array in state.items()} == expected
            assert all(array.dtype == np.float64 and not array.any() for array in state.values())

    @optimizers
    def test_lies_beside_the_weights_in_one_file(self, optimizer: str) -> None:
        model, state = walk(optimizer, 3)
        weights, read = split(tensors.decode_any(tensors.encode(joined(model, state))))
        assert weights.keys() == model.keys()
        assert read.keys() == state.keys()
        assert all(weights[name].tobytes() == model[name].tobytes() for name in model)
        assert all(read[name].tobytes() == state[name].tobytes() for name in state)

    @pytest.mark.parametrize(
        ("name", "dtype"), [("output.bias", np.float64), ("optimizer.steps", np.float32)]
    )
    def test_of_another_type_is_refused(self, name: str, dtype: type[np.generic]) -> None:
        with pytest.raises(IntegrityError, match=f"^tensor {name} must be float"):
            split({name: np.zeros(2).astype(dtype)})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({STEPS: None}, "does not fit this model"),
            ({"optimizer.second.output.bias": np.zeros(3)}, "does not fit this model"),
            ({"optimizer.second.output.bias": np.zeros(2, np.float32)}, "does not fit this model"),
            ({"optimizer.third.output.bias": np.zeros(2)}, "does not fit this model"),
            ({"optimizer.second.output.bias": np.array([1, -1e-9])}, "a negative second moment"),
            ({"optimizer.momentum.output.bias": np.array([1, np.nan])}, "is not finite"),
            ({STEPS: np.array([1.5])}, "must be a whole number from 0"),
            ({STEPS: np.array([-1.0])}, "must be a whole number from 0"),
            ({STEPS: np.array([1e9])}, "must be a whole number from 0"),
        ],
    )
    def test_that_no_step_left_behind_is_refused(self, change: dict[str, Any], message: str) -> None:
        state = {
            name: array
            for name, array in (initial_state("adam", PARENT) | change).items()
            if array is not None
        }
        with pytest.raises(IntegrityError, match=message):
            step("adam", 0.1, PARENT, np.zeros(8), state)

    def test_of_another_optimiser_is_refused(self) -> None:
        for optimizer, other in (("sgd", "momentum"), ("momentum", "adam"), ("adam", "sgd")):
            with pytest.raises(IntegrityError, match=f"^the state of {optimizer} does not fit this model"):
                step(optimizer, 0.1, PARENT, np.zeros(8), initial_state(other, PARENT))


class TestRefusals:
    @pytest.mark.parametrize("optimizer", ["", "average", "Adam"])
    def test_another_optimiser(self, optimizer: str) -> None:
        with pytest.raises(IntegrityError, match=f"^server optimiser {optimizer!r} takes no gradient: sgd"):
            initial_state(optimizer, PARENT)
        with pytest.raises(IntegrityError, match="takes no gradient"):
            step(optimizer, 0.1, PARENT, np.zeros(8), {})

    @pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
    def test_a_learning_rate_out_of_range(self, rate: float) -> None:
        with pytest.raises(IntegrityError, match="learning rate must be a finite number above 0"):
            step("sgd", rate, PARENT, np.zeros(8), {})

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_gradient_that_is_not_finite(self, value: float) -> None:
        with pytest.raises(IntegrityError, match="must be finite float64: nothing was committed"):
            step("sgd", 0.1, PARENT, np.append(np.zeros(7), value), {})

    @pytest.mark.parametrize("length", [0, 7, 9])
    def test_a_gradient_of_another_length(self, length: int) -> None:
        with pytest.raises(IntegrityError, match="must have 8 values for this model"):
            step("sgd", 0.1, PARENT, np.zeros(length), {})

    @optimizers
    def test_a_model_or_a_state_beyond_its_range(self, optimizer: str) -> None:
        state = initial_state(optimizer, PARENT)
        rate = 1e39 if optimizer == "adam" else 0.1
        with pytest.raises(IntegrityError, match=r"outside the range of float32: nothing was committed$"):
            step(optimizer, rate, PARENT, np.full(8, 1e40), state)
        if optimizer == "adam":
            with pytest.raises(IntegrityError, match="outside the range"):
                step(optimizer, 0.1, PARENT, np.full(8, 1e200), state)
