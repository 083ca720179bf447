"""Local SGD against gradients written out by hand, in float64."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.errors import UsageError
from components.training import heads
from components.training.features import Examples
from components.training.local_training.federated_averaging import local_update, site_seed

N, FEATURES, CLASSES = 37, 9, 4
Float64 = NDArray[np.float64]


def examples(count: int = N) -> Examples:
    generator = np.random.default_rng(count)
    return Examples(
        features=generator.normal(size=(count, FEATURES)).astype(np.float32),
        labels=generator.integers(CLASSES, size=count),
    )


def model(hidden_units: int, skip: bool = False) -> heads.Head:
    generator = np.random.default_rng(1)
    like = heads.initial(FEATURES, hidden_units, CLASSES, 0, skip)
    return {k: generator.normal(0, 0.5, values.shape).astype(np.float32) for k, values in like.items()}


def update(
    head: heads.Head,
    rows: Examples,
    *,
    epochs: int = 3,
    rate: float = 0.2,
    batch_size: int = 8,
    seed: int = 5,
    proximal: float = 0.0,
) -> dict[str, Float64]:
    return local_update(
        head,
        rows,
        local_epochs=epochs,
        learning_rate=rate,
        batch_size=batch_size,
        seed=seed,
        device="cpu",
        proximal=proximal,
    )


def by_hand(
    head: heads.Head,
    rows: Examples,
    *,
    epochs: int,
    rate: float,
    batch_size: int,
    seed: int,
    proximal: float = 0.0,
) -> dict[str, Float64]:
    """SGD with the gradients of softmax cross-entropy: (p - onehot) / n at the logits, chained back."""
    weights = {name: values.astype(np.float64) for name, values in head.items()}
    generator = np.random.Generator(np.random.PCG64(seed))
    for _ in range(epochs):
        order = generator.permutation(len(rows.labels))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            x, y = rows.features[chosen].astype(np.float64), rows.labels[chosen]
            deep = "hidden.weight" in weights
            before = x @ weights["hidden.weight"].T + weights["hidden.bias"] if deep else x
            inputs = np.maximum(before, 0) if deep else x
            scores = inputs @ weights["output.weight"].T + weights["output.bias"]
            if "skip.weight" in weights:
                scores = scores + x @ weights["skip.weight"].T
            exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
            error = exponentials / exponentials.sum(axis=1, keepdims=True)
            error[np.arange(len(y)), y] -= 1
            error /= len(y)
            gradients = {"output.weight": error.T @ inputs, "output.bias": error.sum(axis=0)}
            if deep:
                back = (error @ weights["output.weight"]) * (before > 0)
                gradients |= {"hidden.weight": back.T @ x, "hidden.bias": back.sum(axis=0)}
            if "skip.weight" in weights:
                gradients["skip.weight"] = error.T @ x
            for name, gradient in gradients.items():
                pulled = gradient + proximal * (weights[name] - head[name])
                weights[name] = weights[name] - rate * pulled
    return {name: weights[name] - head[name].astype(np.float64) for name in head}


@pytest.mark.parametrize("hidden_units", [0, 6])
@pytest.mark.parametrize("batch_size", [1, 8, N, 100])
@pytest.mark.parametrize("epochs", [1, 3])
def test_is_sgd_on_mean_cross_entropy(hidden_units: int, batch_size: int, epochs: int) -> None:
    head, rows = model(hidden_units), examples()
    expected = by_hand(head, rows, epochs=epochs, rate=0.2, batch_size=batch_size, seed=5)
    found = update(head, rows, epochs=epochs, batch_size=batch_size)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert values.dtype == np.float64
        # At most 111 steps, each rounded to float32 at weights of magnitude 2; float64 by hand.
        np.testing.assert_allclose(values, expected[name], atol=2e-5)


@pytest.mark.parametrize("proximal", [0.0, 0.3, 2.0])
def test_a_skip_connection_and_a_proximal_term_are_as_written_out(proximal: float) -> None:
    head, rows = model(6, skip=True), examples()
    expected = by_hand(head, rows, epochs=3, rate=0.2, batch_size=8, seed=5, proximal=proximal)
    found = update(head, rows, proximal=proximal)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=2e-5)


class TestProximal:
    @pytest.mark.parametrize("hidden_units", [0, 6])
    def test_of_zero_is_federated_averaging_bit_for_bit(self, hidden_units: int) -> None:
        head, rows = model(hidden_units), examples()
        plain = local_update(
            head, rows, local_epochs=3, learning_rate=0.2, batch_size=8, seed=5, device="cpu"
        )
        found = update(head, rows, proximal=0.0)
        assert all(found[name].tobytes() == plain[name].tobytes() for name in head)

    def test_leaves_the_first_step_alone(self) -> None:
        """At the global model the pull towards it is zero."""
        head, rows = model(6), examples()
        one = update(head, rows, epochs=1, batch_size=N)
        pulled = update(head, rows, epochs=1, batch_size=N, proximal=5.0)
        assert all(one[name].tobytes() == pulled[name].tobytes() for name in head)

    def test_keeps_a_site_near_the_global_model(self) -> None:
        head, rows = model(0), examples()
        lengths = [
            np.sqrt(sum((values**2).sum() for values in update(head, rows, epochs=20, proximal=mu).values()))
            for mu in (0.0, 0.1, 1.0, 4.0)
        ]
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[-1] < lengths[0] / 4

    @pytest.mark.parametrize("proximal", [-0.1, np.nan, np.inf])
    def test_out_of_range_is_refused(self, proximal: float) -> None:
        with pytest.raises(UsageError, match=r"^proximal must be a finite number from 0, got"):
            update(model(0), examples(), proximal=proximal)


def test_one_step_from_zero_is_the_closed_form() -> None:
    """From zero every class has probability 1/C: one full-batch step is rate · (onehot − 1/C)ᵀ X / n."""
    rows, head = examples(), heads.initial(FEATURES, 0, CLASSES, 0)
    found = update(head, rows, epochs=1, rate=0.5, batch_size=N)
    residuals = np.eye(CLASSES)[rows.labels] - 1 / CLASSES
    np.testing.assert_allclose(
        found["output.weight"], 0.5 * residuals.T @ rows.features.astype(np.float64) / N, atol=1e-6
    )
    np.testing.assert_allclose(found["output.bias"], 0.5 * residuals.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("hidden_units", [0, 6])
def test_the_same_arguments_give_the_same_bytes(hidden_units: int) -> None:
    head, rows = model(hidden_units), examples(300)
    first, second = (update(head, rows) for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in head)
    other = update(head, rows, seed=6)
    assert any(first[name].tobytes() != other[name].tobytes() for name in head)


@pytest.mark.parametrize("hidden_units", [0, 6])
def test_arguments_stay_as_they_are(hidden_units: int) -> None:
    head, rows = model(hidden_units), examples()
    before = {name: values.copy() for name, values in head.items()}
    features, labels = rows.features.copy(), rows.labels.copy()
    found = update(head, rows)
    assert all(np.abs(values).max() > 0 for values in found.values())
    assert all(np.array_equal(head[name], before[name]) for name in head)
    assert np.array_equal(rows.features, features)
    assert np.array_equal(rows.labels, labels)


def test_a_seed_is_the_beginning_of_a_digest_of_what_it_is_for() -> None:
    expected = int(hashlib.sha256(b"3 12 aws").hexdigest()[:16], 16)
    assert site_seed(3, 12, "aws") == expected


@given(st.integers(0, 2**32), st.integers(1, 10**6), st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True))
def test_seeds_of_sites_and_rounds_differ(seed: int, round_number: int, site: str) -> None:
    near = [
        (seed, round_number, site),
        (seed + 1, round_number, site),
        (seed, round_number + 1, site),
        (seed, round_number, site + "0"),
        (seed * 10, round_number, site),
        (seed, round_number * 10, site),
    ]
    seeds = {site_seed(*each) for each in near}
    # seed * 10 is seed where it is zero; nothing else may collide.
    assert len(seeds) == len(set(near))
    assert all(0 <= each < 2**64 for each in seeds)
