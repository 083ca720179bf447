"""Principal directions against numpy's singular values, and what is left of a row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.agreement.released_sum import feature_norm
from components.data_processing.feature_augmentation.projecting import principal_directions, projected
from components.errors import BadDataError

Features = NDArray[np.float32]


def drawn(rows: int, columns: int, seed: int = 1) -> Features:
    """Rows about a mean far from zero, which differ less and less along the columns."""
    generator = np.random.default_rng(seed)
    spread = 0.8 ** np.arange(columns)
    rotation = np.linalg.qr(generator.normal(size=(columns, columns)))[0]
    drawn = generator.normal(size=(rows, columns)) * spread @ rotation + 3
    return np.asarray(drawn, np.float32)


class TestPrincipalDirections:
    @pytest.mark.parametrize(("rows", "columns", "kept"), [(200, 24, 12), (13, 24, 12), (40, 24, 1)])
    def test_they_span_what_the_singular_vectors_of_the_centred_rows_span(
        self, rows: int, columns: int, kept: int
    ) -> None:
        features = drawn(rows, columns)
        exact = features.astype(np.float64) - features.astype(np.float64).mean(axis=0)
        expected = np.linalg.svd(exact)[2][:kept]
        found = principal_directions(features, kept).astype(np.float64)
        # Cosines of the angles between the spaces: float32 leaves some 1e-7 of each direction.
        cosines = np.linalg.svd(found @ expected.T, compute_uv=False)
        np.testing.assert_allclose(cosines, 1, atol=1e-5)
        np.testing.assert_allclose(np.abs((found * expected).sum(axis=1)), 1, atol=1e-5)

    def test_rows_are_orthonormal_float32_with_a_positive_largest_component(self) -> None:
        found = principal_directions(drawn(100, 16), 8)
        assert found.dtype == np.float32
        assert found.shape == (8, 16)
        np.testing.assert_allclose(
            found.astype(np.float64) @ found.T.astype(np.float64), np.eye(8), atol=1e-6
        )
        assert all(row[np.abs(row).argmax()] > 0 for row in found)

    def test_the_same_texts_give_the_same_bytes(self) -> None:
        features = drawn(100, 16)
        before = features.tobytes()
        assert np.array_equal(principal_directions(features, 8), principal_directions(features.copy(), 8))
        assert features.tobytes() == before

    def test_what_does_not_differ_along_so_many_directions_is_told(self) -> None:
        with pytest.raises(BadDataError, match="of 9 public texts differ along 8 directions, fewer than 9"):
            principal_directions(drawn(9, 16), 9)
        with pytest.raises(BadDataError, match="differ along 0 directions"):
            principal_directions(np.ones((20, 16), np.float32), 1)


class TestProjected:
    @given(st.integers(0, 2**32), st.integers(1, 7))
    def test_every_row_has_the_norm_that_class_sums_count_on(self, seed: int, kept: int) -> None:
        generator = np.random.default_rng(seed)
        matrix = np.linalg.qr(generator.normal(size=(8, kept)))[0].T.astype(np.float32)
        features = (generator.normal(size=(5, 8)) * generator.uniform(1e-3, 1e3)).astype(np.float32)
        found = projected(features, matrix)
        assert found.dtype == np.float32
        assert found.shape == (5, kept)
        assert feature_norm(kept) == math.sqrt(kept)
        np.testing.assert_allclose(
            np.linalg.norm(found.astype(np.float64), axis=1), math.sqrt(kept), rtol=1e-6
        )
        straight = features.astype(np.float64) @ matrix.T.astype(np.float64)
        cosines = (found * straight).sum(axis=1) / np.linalg.norm(straight, axis=1) / math.sqrt(kept)
        np.testing.assert_allclose(cosines, 1, rtol=1e-6)

    def test_a_row_is_the_same_bits_whatever_other_rows_there_are(self) -> None:
        features = drawn(97, 48)
        matrix = principal_directions(features, 24)
        every = projected(features, matrix)
        for some in (slice(0, 1), slice(5, 6), slice(3, 40), slice(96, None), slice(None, None, -1)):
            assert np.array_equal(projected(np.ascontiguousarray(features[some]), matrix), every[some])

    def test_a_row_across_all_directions_has_none_left(self) -> None:
        features = np.array([[0, 0, 5], [3, 4, 0]], np.float32)
        features.setflags(write=False)
        found = projected(features, np.eye(2, 3, dtype=np.float32))
        assert found[0].tolist() == [0, 0]
        np.testing.assert_allclose(found[1], np.array([3, 4]) / 5 * math.sqrt(2), rtol=1e-6)

    def test_no_rows_are_no_rows(self) -> None:
        assert projected(np.zeros((0, 3), np.float32), np.eye(2, 3, dtype=np.float32)).shape == (0, 2)

    def test_a_matrix_for_another_encoder_is_refused(self) -> None:
        with pytest.raises(
            BadDataError, match=r"^a public projection of shape \(2, 4\) does not fit .* of 3 d"
        ):
            projected(np.ones((4, 3), np.float32), np.eye(2, 4, dtype=np.float32))
