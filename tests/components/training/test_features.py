"""The feature file of a site, as it is written and as it must not be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from components.artifacts.file_store import FileStore
from components.artifacts.stores import reference
from components.artifacts.tensors import encode
from components.errors import IntegrityError, ObjectMissingError, RefusedError
from components.training.features import SiteFeatures, read_features

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


def test_units_go_with_their_rows_where_a_file_has_them(tmp_path: Path) -> None:
    units = np.array([7, -1, 7, 2**63 - 1, -1], np.int64)
    found = read(tmp_path / "with", encode(arrays() | {"units": units}))
    assert found.train.units is not None
    assert found.test.units is not None
    assert found.train.units.tolist() == [7, 7, 2**63 - 1]
    assert found.test.units.tolist() == [-1, -1]
    without = read(tmp_path / "without", encode(arrays()))
    assert (without.train.units, without.test.units) == (None, None)
    with pytest.raises(IntegrityError, match="same length"):
        read(tmp_path / "short", encode(arrays() | {"units": units[:-1]}))


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
