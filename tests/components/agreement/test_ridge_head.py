"""The analytic solve against scikit-learn's ridge, with and without noise on what was opened."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.ridge_head import default_lam, gram_sensitivity, ridge_head, unpacked
from components.errors import IntegrityError, UsageError
from components.training import heads
from components.training.features import Examples
from components.training.heads import random_features
from components.training.local_training.gram_sums import clipped_features, gram_sums

FEATURES, CLASSES = 12, 5
Float64 = NDArray[np.float64]
hidden = pytest.mark.parametrize("hidden_units", [0, 20])


def examples(count: int = 1500, seed: int = 0) -> Examples:
    """Classes on the sphere of radius √d, as `augment` stores features."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, FEATURES)) * 1.5
    labels = generator.integers(CLASSES, size=count)
    z = centres[labels] + generator.normal(size=(count, FEATURES))
    z *= math.sqrt(FEATURES) / np.linalg.norm(z, axis=1, keepdims=True)
    return Examples(features=z.astype(np.float32), labels=labels)


def solve(
    opened: Float64, weight: NDArray[np.float32], *, lam: float | None = None, **options: float
) -> heads.Head:
    """The head; `lam` asks for one λ instead of the default."""
    if lam is not None:
        gram, _ = unpacked(opened, classes=CLASSES, hidden_weight=weight, cross_weight=2.0)
        options["ridge"] = lam / default_lam(gram, options.get("noise_deviation", 0.0))
    return ridge_head(
        opened,
        classes=CLASSES,
        hidden_weight=weight,
        cross_weight=2.0,
        feature_norm=math.sqrt(FEATURES),
        **options,
    )


def opened_sums(weight: NDArray[np.float32], deviation: float = 0.0, seed: int = 0) -> Float64:
    exact = gram_sums(examples(), classes=CLASSES, hidden_weight=weight, cross_weight=2.0)
    return exact + np.random.default_rng(seed).normal(0, deviation, exact.shape) if deviation else exact


def accuracy(head: heads.Head) -> float:
    fresh = examples(2000, seed=1)
    return float((heads.logits(head, fresh.features).argmax(axis=1) == fresh.labels).mean())


@hidden
@pytest.mark.parametrize("lam", [0.01, 1.0, 30.0])
def test_is_the_ridge_regression_of_scikit_learn(hidden_units: int, lam: float) -> None:
    from sklearn.linear_model import Ridge

    weight, rows = random_features(FEATURES, hidden_units, 1), examples()
    phi = clipped_features(rows.features, weight)
    expected = Ridge(alpha=lam, fit_intercept=False, solver="svd").fit(phi, np.eye(CLASSES)[rows.labels])
    head = solve(opened_sums(weight), weight, lam=lam, logit_scale=1.0)
    usual = math.sqrt(FEATURES * (1.5 if hidden_units else 1.0))
    found = heads.last_layer(head)
    if hidden_units:
        # The last layer's input is [hidden; z], φ is [z; hidden].
        found = np.hstack([head["skip.weight"], head["output.weight"]])
    np.testing.assert_allclose(found * usual, expected.coef_, rtol=1e-5, atol=1e-6)


@hidden
def test_the_head_decides_as_the_solve_does(hidden_units: int) -> None:
    weight, rows = random_features(FEATURES, hidden_units, 1), examples(400, seed=5)
    gram, cross = unpacked(opened_sums(weight), classes=CLASSES, hidden_weight=weight, cross_weight=2.0)
    solved = np.linalg.solve(gram + 0.5 * np.eye(len(gram)), cross)
    scores = clipped_features(rows.features, weight) @ solved
    head = solve(opened_sums(weight), weight, lam=0.5)
    assert np.array_equal(heads.logits(head, rows.features).argmax(axis=1), scores.argmax(axis=1))
    like = heads.initial(FEATURES, hidden_units, CLASSES, 0, skip=hidden_units > 0)
    assert {name: (array.shape, array.dtype) for name, array in head.items()} == {
        name: (array.shape, array.dtype) for name, array in like.items()
    }
    if hidden_units:
        assert np.array_equal(head["hidden.weight"], weight)
        assert not head["hidden.bias"].any()
    # A row's logits are `logit_scale` times the solve's scores, up to its own norm beside the usual one.
    logits = heads.logits(head, rows.features).astype(np.float64)
    ratio = np.linalg.norm(logits, axis=1) / np.linalg.norm(scores, axis=1)
    assert np.median(ratio) == pytest.approx(20, rel=0.15)


def test_hidden_units_learn_what_no_linear_head_can() -> None:
    """Two classes on a circle that a line through the origin cannot part."""
    generator = np.random.default_rng(0)
    z = generator.normal(size=(4000, 2))
    z = (z * math.sqrt(2) / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)
    rows = Examples(features=z, labels=(z[:, 0] * z[:, 1] > 0).astype(np.int64))
    found = {}
    for hidden_units in (0, 200):
        weight = random_features(2, hidden_units, 1)
        sums = gram_sums(rows, classes=2, hidden_weight=weight)
        head = ridge_head(sums, classes=2, hidden_weight=weight, feature_norm=math.sqrt(2), ridge=1e-3)
        found[hidden_units] = float((heads.logits(head, z).argmax(axis=1) == rows.labels).mean())
    assert found[0] < 0.6
    assert found[200] > 0.97


class TestUnderNoise:
    @hidden
    @pytest.mark.parametrize("multiplier", [0.5, 2.0, 8.0])
    def test_the_default_keeps_what_a_plain_solve_loses(self, hidden_units: int, multiplier: float) -> None:
        weight = random_features(FEATURES, hidden_units, 1)
        deviation = multiplier * gram_sensitivity(2.0)
        kept, plain = [], []
        for seed in range(5):
            opened = opened_sums(weight, deviation, seed)
            kept.append(accuracy(solve(opened, weight, noise_deviation=deviation)))
            plain.append(accuracy(solve(opened, weight, lam=0.01)))
        assert np.mean(kept) > 0.75
        assert np.mean(kept) >= np.mean(plain)

    def test_a_matrix_that_is_not_positive_gets_twice_the_ridge_until_it_is(self) -> None:
        weight = random_features(FEATURES, 0, 1)
        opened = opened_sums(weight, 300.0)
        gram, cross = unpacked(opened, classes=CLASSES, hidden_weight=weight, cross_weight=2.0)
        lowest = float(np.linalg.eigvalsh(gram).min())
        assert lowest < -100
        doubled = 7 * 2 ** math.ceil(math.log2(-lowest / 7))
        expected = np.linalg.solve(gram + doubled * np.eye(FEATURES), cross)
        head = solve(opened, weight, lam=7.0, logit_scale=1.0)
        np.testing.assert_allclose(
            head["output.weight"].T * math.sqrt(FEATURES), expected, rtol=1e-4, atol=1e-5
        )

    def test_the_default_lifts_the_whole_semicircle_above_zero(self) -> None:
        """Of pure noise, 200 wide: the first λ is enough, so the head is the solve with just that one."""
        weight = random_features(200, 0, 1)
        for seed in range(20):
            noise = np.random.default_rng(seed).normal(0, 3, size=200 * 201 // 2 + 200 * CLASSES)
            gram, _ = unpacked(noise, classes=CLASSES, hidden_weight=weight, cross_weight=2.0)
            assert np.linalg.eigvalsh(gram).min() + default_lam(gram, 3.0) > 0

    def test_noise_on_the_triangle_is_symmetric_with_half_the_variance_off_the_diagonal(self) -> None:
        weight = random_features(40, 0, 1)
        noise = np.random.default_rng(0).normal(0, 3, size=40 * 41 // 2 + 40 * CLASSES)
        gram, cross = unpacked(noise, classes=CLASSES, hidden_weight=weight, cross_weight=2.0)
        assert np.array_equal(gram, gram.T)
        # 780 and 200 draws: standard deviations of 3/√2 and 3/2 are known to a fortieth and a twentieth.
        assert gram[np.triu_indices(40, 1)].std() == pytest.approx(3 / math.sqrt(2), rel=0.1)
        assert cross.std() == pytest.approx(3 / 2, rel=0.2)
        # Wigner: no eigenvalue far beyond σ√(2m).
        assert np.abs(np.linalg.eigvalsh(gram)).max() < 1.2 * 3 * math.sqrt(80)

    def test_the_default_ridge_in_closed_form(self) -> None:
        assert default_lam(np.eye(8) * 300, 0.0) == pytest.approx(3.0)
        assert default_lam(np.eye(8) * 300, 2.0) == pytest.approx(3.0 + 2 * 4 * 1.125)
        assert default_lam(-np.eye(8), 2.0) == pytest.approx(9.0)


class TestRefusals:
    @pytest.mark.parametrize("ridge", [0.0, -1.0, np.nan])
    def test_a_ridge_out_of_range(self, ridge: float) -> None:
        weight = random_features(FEATURES, 0, 1)
        with pytest.raises(UsageError, match="ridge must be a finite number above 0"):
            solve(opened_sums(weight), weight, ridge=ridge)

    def test_sums_of_nobody(self) -> None:
        weight = random_features(FEATURES, 0, 1)
        for sums in (np.zeros_like(opened_sums(weight)), -opened_sums(weight)):
            with pytest.raises(IntegrityError, match="are those of nobody"):
                solve(sums, weight)

    @pytest.mark.parametrize("change", ["longer", "shorter", "nan"])
    def test_sums_that_do_not_fit(self, change: str) -> None:
        weight = random_features(FEATURES, 0, 1)
        opened = opened_sums(weight)
        other = {"longer": np.append(opened, 0), "shorter": opened[1:], "nan": opened * np.nan}[change]
        with pytest.raises(IntegrityError, match="opened Gram sums must be 138 finite values"):
            solve(other, weight)
