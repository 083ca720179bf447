"""Class sums against a loop, their sensitivity by search, and the head that is read off them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement.class_sum_head import head_from_class_sums
from components.errors import BadDataError, IntegrityError, UsageError
from components.training import heads
from components.training.features import Examples
from components.training.local_training.class_sums import class_sums

N, FEATURES, CLASSES = 60, 6, 4
Float64 = NDArray[np.float64]


def examples(count: int = N, seed: int = 0) -> Examples:
    generator = np.random.default_rng(seed)
    sizes = np.exp(generator.uniform(-3, 3, size=(count, 1)))
    return Examples(
        features=(generator.normal(size=(count, FEATURES)) * sizes).astype(np.float32),
        labels=generator.integers(CLASSES, size=count),
    )


def part(rows: Examples, chosen: Any) -> Examples:
    return Examples(features=rows.features[chosen], labels=rows.labels[chosen])


def sums(rows: Examples, norm: float = 2.0, units: NDArray[np.int64] | None = None) -> Float64:
    return class_sums(rows, classes=CLASSES, clipping_norm=norm, units=units)


def in_a_loop(rows: Examples, norm: float, units: NDArray[np.int64]) -> Float64:
    total = np.zeros((CLASSES, FEATURES))
    for unit in np.unique(units):
        own = np.zeros((CLASSES, FEATURES))
        for z, y in zip(rows.features[units == unit], rows.labels[units == unit], strict=True):
            own[y] += z
        total += own * min(1, norm / max(float(np.linalg.norm(own)), 1e-300))
    return total.ravel()


@pytest.mark.parametrize("norm", [0.1, 2.0, 1e6])
def test_are_sums_of_clipped_features_by_class(norm: float) -> None:
    rows = examples()
    np.testing.assert_allclose(sums(rows, norm), in_a_loop(rows, norm, np.arange(N)), atol=1e-12)


@pytest.mark.parametrize("norm", [0.1, 2.0, 1e6])
def test_a_unit_is_clipped_as_a_whole(norm: float) -> None:
    rows, units = examples(), np.random.default_rng(2).choice([-3, 5, 6, 10**15], size=N)
    np.testing.assert_allclose(sums(rows, norm, units), in_a_loop(rows, norm, units), atol=1e-9)


@settings(max_examples=80)
@given(st.integers(0, 2**32), st.floats(1e-3, 1e3), st.floats(-10, 10), st.integers(1, 5))
def test_one_unit_more_changes_the_sums_by_the_clipping_norm_at_most(
    seed: int, norm: float, log_size: float, count: int
) -> None:
    rows = examples(20 + count, seed)
    rows.features[20:] *= np.float32(np.exp(log_size))
    units = np.append(np.arange(20), np.full(count, 99))
    change = np.linalg.norm(sums(rows, norm, units) - sums(part(rows, slice(0, 20)), norm, units[:20]))
    assert change <= norm * (1 + 1e-12)
    if count == 1:
        # Tight: a row longer than C uses all of it.
        expected = min(norm, float(np.linalg.norm(rows.features[20].astype(np.float64))))
        assert change == pytest.approx(expected, rel=1e-9, abs=1e-12 * norm)


@given(st.permutations(range(N)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    rows, units = examples(), np.arange(N) // 7
    np.testing.assert_allclose(sums(part(rows, order)), sums(rows), atol=1e-12)
    np.testing.assert_allclose(
        sums(part(rows, order), units=units[order]), sums(rows, units=units), atol=1e-12
    )


def test_nobody_adds_nothing_and_arguments_stay_as_they_are() -> None:
    assert not sums(examples(0)).any()
    assert not sums(examples(0), units=np.zeros(0, np.int64)).any()
    rows = examples()
    rows.features.setflags(write=False)
    assert sums(rows).shape == (CLASSES * FEATURES,)


@pytest.mark.parametrize("norm", [0.0, -1.0, np.inf, np.nan])
def test_a_norm_out_of_range_is_refused(norm: float) -> None:
    with pytest.raises(UsageError, match="clipping_norm must be a finite number above 0"):
        sums(examples(), norm)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full(N, CLASSES)}, "labels must lie in 0…3"),
        ({"labels": np.full(N, -1)}, "labels must lie in 0…3"),
        ({"labels": np.zeros(3, np.int64)}, "equally many"),
        ({"features": np.full((N, 2), np.inf, np.float32)}, "not a finite number"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    rows = examples()
    with pytest.raises(BadDataError, match=message):
        sums(replace(rows, **change))


class TestHead:
    def head(self, found: Float64, kind: str = "linear") -> heads.Head:
        genesis = heads.initial(FEATURES, 0 if kind == "linear" else 3, CLASSES, 1, kind == "skip")
        return head_from_class_sums(found, head=genesis, logit_scale=8.0, feature_norm=math.sqrt(FEATURES))

    @pytest.mark.parametrize("kind", ["linear", "skip"])
    def test_scores_the_cosine_to_every_class_sum(self, kind: str) -> None:
        found, z = sums(examples()), np.random.default_rng(1).normal(size=(9, FEATURES))
        z *= math.sqrt(FEATURES) / np.linalg.norm(z, axis=1, keepdims=True)
        directions = found.reshape(CLASSES, FEATURES)
        cosines = z @ directions.T / np.linalg.norm(directions, axis=1) / math.sqrt(FEATURES)
        scores = heads.logits(self.head(found, kind), z.astype(np.float32))
        np.testing.assert_allclose(scores, 8 * cosines, atol=1e-5)

    def test_is_the_nearest_mean_classifier_of_scikit_learn_on_the_sphere(self) -> None:
        from sklearn.neighbors import KNeighborsClassifier

        generator = np.random.default_rng(3)
        labels = np.arange(400) % CLASSES
        z = generator.normal(size=(400, FEATURES)) + 2 * generator.normal(size=(CLASSES, FEATURES))[labels]
        z = (z * math.sqrt(FEATURES) / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)
        found = class_sums(
            Examples(features=z, labels=labels), classes=CLASSES, clipping_norm=math.sqrt(FEATURES)
        )
        centres = found.reshape(CLASSES, FEATURES)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        nearest = KNeighborsClassifier(1).fit(centres, np.arange(CLASSES)).predict(z)
        assert np.array_equal(heads.logits(self.head(found), z).argmax(axis=1), nearest)
        assert (nearest == labels).mean() > 0.8

    def test_keeps_the_hidden_layer_and_silences_what_stands_behind_it(self) -> None:
        genesis, start = heads.initial(FEATURES, 3, CLASSES, 1, True), self.head(sums(examples()), "skip")
        assert all(np.array_equal(start[name], genesis[name]) for name in ("hidden.weight", "hidden.bias"))
        assert not start["output.weight"].any()
        assert not start["output.bias"].any()
        assert start["skip.weight"].any()

    def test_a_class_nobody_has_scores_zero(self) -> None:
        found = sums(examples())
        found[:FEATURES] = 0
        assert not self.head(found)["output.weight"][0].any()

    def test_a_hidden_layer_without_a_skip_connection_is_refused(self) -> None:
        with pytest.raises(UsageError, match="one with a skip connection: this one has neither"):
            self.head(sums(examples()), "mlp")

    @pytest.mark.parametrize("found", [np.zeros(CLASSES * FEATURES + 1), np.full(CLASSES * FEATURES, np.nan)])
    def test_sums_that_do_not_fit_are_refused(self, found: Float64) -> None:
        with pytest.raises(IntegrityError, match="class sums must be 24 finite values for this head"):
            self.head(found)
