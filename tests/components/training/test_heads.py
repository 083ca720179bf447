"""Heads against torch's own modules, and the genesis model that everybody must compute alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.artifacts.documents import digest
from components.artifacts.tensors import encode
from components.errors import UsageError
from components.training import heads

N, FEATURES, HIDDEN, CLASSES = 50, 11, 7, 5
GENESIS = "13bf73dcb405e82a14644450d876a016b83d5323da93c7a6a9d9b983041ab78c"
widths = st.integers(1, 40)


def random_head(hidden_units: int, skip: bool = False) -> heads.Head:
    generator = np.random.default_rng(hidden_units)
    like = heads.initial(FEATURES, hidden_units, CLASSES, 0, skip)
    return {name: generator.normal(size=values.shape).astype(np.float32) for name, values in like.items()}


def rows() -> NDArray[np.float32]:
    return np.random.default_rng(8).normal(size=(N, FEATURES)).astype(np.float32)


def torch_module(head: heads.Head, *, up_to: str) -> NDArray[np.float32]:
    """What a torch.nn.Sequential with these weights makes of `rows()`, in float64."""
    import torch

    layers: list[torch.nn.Module] = []
    for name in ("hidden", "output"):
        if f"{name}.weight" in head and not (name == "output" and up_to == "hidden"):
            weight, bias = torch.tensor(head[f"{name}.weight"]), torch.tensor(head[f"{name}.bias"])
            layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
            layer.load_state_dict({"weight": weight, "bias": bias})
            layers += [layer, torch.nn.ReLU()] if name == "hidden" else [layer]
    with torch.no_grad():
        result: NDArray[np.float32] = (
            torch.nn.Sequential(*layers).double()(torch.tensor(rows()).double()).numpy()
        )
    return result


@pytest.mark.parametrize("hidden_units", [0, HIDDEN])
def test_logits_are_those_of_torch(hidden_units: int) -> None:
    head = random_head(hidden_units)
    scores = heads.logits(head, rows())
    assert scores.shape == (N, CLASSES)
    assert scores.dtype == np.float32
    # Sums of at most 12 products of magnitude 10 in float32, whose unit roundoff is 6e-8.
    np.testing.assert_allclose(scores, torch_module(head, up_to="output"), atol=2e-5)


@pytest.mark.parametrize(("hidden_units", "skip"), [(0, False), (HIDDEN, False), (HIDDEN, True)])
def test_a_rows_scores_are_the_same_bits_whatever_other_rows_there_are(hidden_units: int, skip: bool) -> None:
    head, features = random_head(hidden_units, skip), rows()
    together = heads.logits_row_by_row(head, features)
    assert (together.shape, together.dtype.name) == ((N, CLASSES), "float64")
    np.testing.assert_allclose(together, heads.logits(head, features), atol=2e-5)
    for start, stop in ((0, 1), (3, 20), (N - 1, N)):
        apart = heads.logits_row_by_row(head, features[start:stop])
        assert apart.tobytes() == together[start:stop].tobytes()


def test_the_last_layer_of_an_mlp_is_given_what_torchs_relu_makes() -> None:
    head = random_head(HIDDEN)
    inputs = heads.penultimate(head, rows())
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs, torch_module(head, up_to="hidden"), atol=2e-5)
    assert (inputs == 0).any()  # the ReLU had something to do
    assert (inputs > 0).any()


def test_the_last_layer_of_a_linear_head_is_given_the_features() -> None:
    assert np.array_equal(heads.penultimate(random_head(0), rows()), rows())


@pytest.mark.parametrize("hidden_units", [0, HIDDEN])
def test_arguments_stay_as_they_are(hidden_units: int) -> None:
    head, features = random_head(hidden_units), rows()
    for array in (*head.values(), features):
        array.setflags(write=False)
    heads.logits(head, features)
    assert np.array_equal(features, rows())


@settings(max_examples=30)
@given(widths, st.integers(0, 40), widths, st.integers(0, 2**63))
def test_the_same_four_numbers_give_the_same_bytes(
    features: int, hidden_units: int, classes: int, seed: int
) -> None:
    first, second = (encode(heads.initial(features, hidden_units, classes, seed)) for _ in range(2))
    assert first == second
    if hidden_units:
        assert first != encode(heads.initial(features, hidden_units, classes, seed + 1))


def test_the_genesis_bytes_do_not_change_with_versions() -> None:
    """Parties with different versions of numpy must start from one model: its digest is pinned."""
    assert digest(encode(heads.initial(6, 5, 4, 7))) == GENESIS
    assert digest(encode(heads.initial(6, 0, 4, 7))) == digest(
        encode({"output.weight": np.zeros((4, 6), np.float32), "output.bias": np.zeros(4, np.float32)})
    )


@settings(max_examples=30)
@given(widths, widths, widths, st.integers(0, 2**32))
def test_every_weight_lies_within_one_over_the_root_of_its_fan_in(
    features: int, hidden_units: int, classes: int, seed: int
) -> None:
    head = heads.initial(features, hidden_units, classes, seed)
    assert {name: values.shape for name, values in head.items()} == {
        "hidden.weight": (hidden_units, features),
        "hidden.bias": (hidden_units,),
        "output.weight": (classes, hidden_units),
        "output.bias": (classes,),
    }
    for name, values in head.items():
        fan_in = features if name.startswith("hidden") else hidden_units
        assert values.dtype == np.float32
        assert np.abs(values).max() <= np.float32(1 / np.sqrt(fan_in))


def test_weights_are_uniform() -> None:
    weight = heads.initial(256, 400, 3, 1)["hidden.weight"].ravel() * 16
    assert weight.max() > 0.999
    assert weight.min() < -0.999
    # Of 102,400 uniform values in ±1 the mean deviates by 0.0018 and the second moment by 0.0009.
    assert abs(weight.mean()) < 0.01
    assert abs((weight**2).mean() - 1 / 3) < 0.005


class TestSkip:
    def test_logits_are_those_of_the_two_paths_in_torch(self) -> None:
        import torch

        head = random_head(HIDDEN, skip=True)
        with torch.no_grad():
            direct = torch.tensor(rows()).double() @ torch.tensor(head["skip.weight"]).double().T
        expected = torch_module(head, up_to="output") + direct.numpy()
        np.testing.assert_allclose(heads.logits(head, rows()), expected, atol=5e-5)

    def test_starts_at_zero_and_leaves_the_rest_of_the_genesis_model_alone(self) -> None:
        plain, skipping = (heads.initial(6, 5, 4, 7, skip) for skip in (False, True))
        assert skipping.keys() - plain.keys() == {"skip.weight"}
        assert skipping["skip.weight"].shape == (4, 6)
        assert skipping["skip.weight"].dtype == np.float32
        assert not skipping["skip.weight"].any()
        assert all(plain[name].tobytes() == skipping[name].tobytes() for name in plain)

    def test_of_zero_changes_no_logit(self) -> None:
        head = random_head(HIDDEN)
        with_skip = head | {"skip.weight": np.zeros((CLASSES, FEATURES), np.float32)}
        np.testing.assert_allclose(heads.logits(with_skip, rows()), heads.logits(head, rows()), atol=1e-6)

    def test_the_last_layer_is_given_hidden_units_and_features(self) -> None:
        head = random_head(HIDDEN, skip=True)
        inputs = heads.penultimate(head, rows())
        assert inputs.shape == (N, HIDDEN + FEATURES)
        np.testing.assert_allclose(inputs[:, :HIDDEN], torch_module(head, up_to="hidden"), atol=1e-5)
        assert np.array_equal(inputs[:, HIDDEN:], rows())

    @pytest.mark.parametrize(("hidden_units", "skip"), [(0, False), (HIDDEN, False), (HIDDEN, True)])
    def test_the_last_layer_and_its_tensors_are_each_others_inverse(
        self, hidden_units: int, skip: bool
    ) -> None:
        head = random_head(hidden_units, skip)
        weight = heads.last_layer(head)
        np.testing.assert_array_equal(
            heads.penultimate(head, rows()) @ weight.T + head["output.bias"], heads.logits(head, rows())
        )
        parts = heads.last_layer_tensors(head, weight)
        assert parts.keys() == head.keys() & {"output.weight", "skip.weight"}
        assert all(np.array_equal(parts[name], head[name]) for name in parts)
        assert all(values.flags.c_contiguous for values in parts.values())

    def test_of_a_linear_head_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"^a skip connection needs hidden_units above 0, got 0"):
            heads.initial(6, 0, 4, 7, skip=True)


def test_a_linear_head_starts_by_knowing_nothing() -> None:
    scores = heads.logits(heads.initial(FEATURES, 0, CLASSES, 9), rows())
    assert not scores.any()
