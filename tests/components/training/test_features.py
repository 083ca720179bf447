"""The feature file of a site, as it is written and as it must not be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.artifacts.file_store import FileStore
from components.artifacts.stores import reference
from components.artifacts.tensors import encode
from components.errors import BadDataError, IntegrityError, ObjectMissingError, RefusedError
from components.training.features import SiteFeatures, centred, read_features

Arrays = dict[str, NDArray[np.generic]]


def arrays() -> Arrays:
    return {
        "features": np.arange(10, dtype=np.float32).reshape(5, 2),
        "labels": np.array([3, 1, 4, 1, 5], np.int64),
        "is_test": np.array([0, 1, 0, 0, 1], np.uint8),
    }


def read(folder: Path, content: bytes) -> SiteFeatures:
    store = FileStore("store", folder)
    store.create("features/a.safetensors", content)
    return read_features(store, reference(store, "features/a.safetensors"))


def test_rows_are_parted_as_the_warehouse_parted_them(tmp_path: Path) -> None:
    found = read(tmp_path, encode(arrays()))
    assert found.train.features.tolist() == [[0, 1], [4, 5], [6, 7]]
    assert found.train.labels.tolist() == [3, 4, 1]
    assert found.test.features.tolist() == [[2, 3], [8, 9]]
    assert found.test.labels.tolist() == [1, 5]
    assert found.train.features.dtype == np.float32
    assert found.test.labels.dtype == np.int64


@pytest.mark.parametrize("missing", ["features", "labels", "is_test"])
def test_a_file_without_one_of_its_arrays_is_refused(tmp_path: Path, missing: str) -> None:
    content = encode({name: array for name, array in arrays().items() if name != missing})
    with pytest.raises(IntegrityError, match=missing):
        read(tmp_path, content)


@pytest.mark.parametrize("short", ["features", "labels", "is_test"])
def test_arrays_of_different_lengths_are_refused(tmp_path: Path, short: str) -> None:
    content = encode(arrays() | {short: arrays()[short][:-1]})
    with pytest.raises(IntegrityError, match="same length"):
        read(tmp_path, content)


@pytest.mark.parametrize("content", [b"", b"not tensors at all", encode(arrays())[:-1]])
def test_what_is_no_tensor_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(IntegrityError):
        read(tmp_path, content)


@pytest.mark.parametrize("elsewhere", ["other/features/a.safetensors", "store/../a", "/etc/hostname"])
def test_a_reference_out_of_the_store_is_not_followed(tmp_path: Path, elsewhere: str) -> None:
    with pytest.raises(RefusedError):
        read_features(FileStore("store", tmp_path), elsewhere)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ObjectMissingError):
        read_features(FileStore("store", tmp_path), "store/features/b.safetensors")


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
