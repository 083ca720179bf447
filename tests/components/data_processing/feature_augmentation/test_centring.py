from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.feature_augmentation.centring import centred
from components.errors import BadDataError


class TestCentred:
    @given(st.integers(0, 2**32), st.floats(0, 3))
    def test_every_row_keeps_its_norm_and_points_away_from_the_mean(self, seed: int, shift: float) -> None:
        generator = np.random.default_rng(seed)
        features = (generator.normal(size=(7, 5)) + shift).astype(np.float32)
        mean = generator.normal(size=5).astype(np.float32)
        found = centred(features, mean)
        assert found.dtype == np.float32
        before = np.linalg.norm(features.astype(np.float64), axis=1)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), before, rtol=1e-6)
        direction = features.astype(np.float64) - mean
        cosines = (found * direction).sum(axis=1) / np.linalg.norm(direction, axis=1) / before
        np.testing.assert_allclose(cosines, 1, rtol=1e-6)

    def test_a_mean_of_zero_changes_nothing(self) -> None:
        features = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
        assert np.array_equal(centred(features, np.zeros(5, np.float32)), features)

    def test_a_row_that_is_the_mean_has_no_direction(self) -> None:
        features = np.array([[3, 4], [0, 5]], np.float32)
        found = centred(features, np.array([3, 4], np.float32))
        assert found[0].tolist() == [0, 0]
        assert np.linalg.norm(found[1]) == pytest.approx(5)

    def test_arguments_stay_as_they_are(self) -> None:
        features, mean = np.ones((3, 2), np.float32), np.array([1, 0], np.float32)
        features.setflags(write=False)
        assert centred(features, mean).tolist() == [[0, pytest.approx(2**0.5)]] * 3

    def test_a_mean_of_another_encoder_is_refused(self) -> None:
        with pytest.raises(BadDataError, match=r"^a public mean of shape \(3,\) does not fit features of 2"):
            centred(np.ones((4, 2), np.float32), np.ones(3, np.float32))
