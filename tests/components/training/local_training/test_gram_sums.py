"""Gram sums against a loop, and their sensitivity by search over neighbouring inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement.ridge_head import gram_length, gram_sensitivity
from components.artifacts.documents import digest
from components.errors import BadDataError, UsageError
from components.training.features import Examples
from components.training.heads import random_features
from components.training.local_training import gram_sums as module
from components.training.local_training.gram_sums import clipped_features, gram_sums

N, FEATURES, CLASSES = 30, 4, 3
PUBLIC_WEIGHT = "191b1b30512da0c5ff27c8b626c9da16f3f0fc5e01bb2762ce2886a15b3b7bc7"
Float64 = NDArray[np.float64]


def examples(count: int = N, seed: int = 0, log_size: float = 0.0) -> Examples:
    generator = np.random.default_rng(seed)
    return Examples(
        features=(generator.normal(size=(count, FEATURES)) * np.exp(log_size)).astype(np.float32),
        labels=generator.integers(CLASSES, size=count),
    )


def sums(rows: Examples, hidden_units: int = 5, weight: float = 1.0) -> Float64:
    hidden = random_features(FEATURES, hidden_units, 1)
    return gram_sums(rows, classes=CLASSES, hidden_weight=hidden, cross_weight=weight)


@pytest.mark.parametrize("hidden_units", [0, 5])
@pytest.mark.parametrize("weight", [0.5, 2.0])
@pytest.mark.parametrize("log_size", [-3.0, 3.0])
def test_are_sums_of_outer_products(hidden_units: int, weight: float, log_size: float) -> None:
    rows, w = examples(log_size=log_size), random_features(FEATURES, hidden_units, 1).astype(np.float64)
    width = FEATURES + hidden_units
    gram, cross = np.zeros((width, width)), np.zeros((width, CLASSES))
    for z, y in zip(rows.features.astype(np.float64), rows.labels, strict=True):
        u = np.append(z, np.maximum(w @ z, 0))
        phi = u / max(1, np.linalg.norm(u))
        gram += np.outer(phi, phi)
        cross[:, y] += phi
    triangle = [gram[i, j] * (1 if i == j else math.sqrt(2)) for i in range(width) for j in range(i, width)]
    found = sums(rows, hidden_units, weight)
    assert found.shape == (gram_length(FEATURES, hidden_units, CLASSES),)
    np.testing.assert_allclose(found, np.append(triangle, weight * cross.ravel()), atol=1e-12)


class TestSensitivity:
    @settings(max_examples=150)
    @given(
        st.integers(0, 2**32),
        st.sampled_from([0, 1, 5]),
        st.floats(0.01, 100),
        st.lists(st.floats(-100, 100, width=32), min_size=FEATURES, max_size=FEATURES),
        st.integers(0, CLASSES - 1),
    )
    def test_no_example_changes_the_sums_by_more(
        self, seed: int, hidden_units: int, weight: float, z: list[float], label: int
    ) -> None:
        rows = examples(seed=seed)
        both = Examples(
            features=np.vstack([rows.features, np.array([z], np.float32)]),
            labels=np.append(rows.labels, label),
        )
        change = np.linalg.norm(sums(both, hidden_units, weight) - sums(rows, hidden_units, weight))
        assert change <= gram_sensitivity(weight) * (1 + 1e-12) + 1e-12

    @pytest.mark.parametrize("hidden_units", [0, 5])
    @pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
    def test_every_long_row_reaches_it(self, hidden_units: int, weight: float) -> None:
        for seed in range(20):
            one = examples(1, seed, log_size=4.0)
            assert np.linalg.norm(sums(one, hidden_units, weight)) == pytest.approx(math.sqrt(1 + weight**2))

    def test_a_triangle_without_the_factor_would_state_less_than_it_releases(self) -> None:
        """Off-diagonal entries count twice in the matrix: the scaled triangle has its Frobenius norm."""
        rows = examples(7)
        phi = clipped_features(rows.features, random_features(FEATURES, 5, 1))
        triangle = sums(rows)[: 9 * 10 // 2]
        assert np.linalg.norm(triangle) == pytest.approx(np.linalg.norm(phi.T @ phi))


@given(st.permutations(range(N)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    rows = examples()
    shuffled = Examples(features=rows.features[order], labels=rows.labels[order])
    np.testing.assert_allclose(sums(shuffled), sums(rows), atol=1e-12)


@pytest.mark.parametrize("cut", [0, 11, N])
def test_sums_of_parts_add_up_and_blocks_do_not_matter(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, whole = examples(), sums(examples())
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 4)
    first, second = (
        sums(Examples(features=rows.features[place], labels=rows.labels[place]))
        for place in (slice(0, cut), slice(cut, N))
    )
    np.testing.assert_allclose(first + second, whole, atol=1e-12)


class TestPublicWeight:
    def test_is_the_same_for_everybody(self) -> None:
        assert digest(random_features(6, 5, 7).tobytes()) == PUBLIC_WEIGHT
        assert random_features(6, 5, 7).tobytes() != random_features(6, 5, 8).tobytes()
        assert random_features(6, 0, 7).shape == (0, 6)

    @pytest.mark.parametrize("hidden_units", [32, 2048])
    def test_hidden_units_are_as_long_together_whatever_their_number(self, hidden_units: int) -> None:
        weight = random_features(64, hidden_units, 3)
        z = np.random.default_rng(0).normal(size=(500, 64))
        hidden = np.maximum(z @ weight.T, 0)
        ratio = (hidden**2).sum() / (z**2).sum()
        # Half of each unit's variance of ‖z‖²/hidden_units; 32 units of 64 weights deviate by a tenth.
        assert ratio == pytest.approx(0.5, abs=0.1)

    def test_dividing_by_the_norm_keeps_the_decision(self) -> None:
        """ReLU keeps positive factors: φ of a long row is the row's own features over one number."""
        weight = random_features(FEATURES, 5, 1)
        z = examples(log_size=3.0).features
        phi = clipped_features(z, weight)
        raw = np.hstack([z, np.maximum(z.astype(np.float64) @ weight.T, 0)])
        np.testing.assert_allclose(np.linalg.norm(phi, axis=1), 1, rtol=1e-12)
        np.testing.assert_allclose(phi * np.linalg.norm(raw, axis=1, keepdims=True), raw, rtol=1e-6)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.inf])
def test_a_weight_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="cross_weight must be a finite number above 0"):
        sums(examples(), weight=weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full(N, CLASSES)}, "labels must lie in 0…2"),
        ({"labels": np.zeros(3, np.int64)}, "equally many"),
        ({"features": np.full((N, FEATURES), np.nan, np.float32)}, "not a finite number"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    rows = examples()
    with pytest.raises(BadDataError, match=message):
        sums(replace(rows, **change))
