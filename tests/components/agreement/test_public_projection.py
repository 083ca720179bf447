"""The matrix that makes features fewer: read by its digest, and refused where it is no projection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from components.agreement.public_projection import (
    Projection,
    projection_key,
    publish_projection,
    read_bytes,
    read_projection,
)
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store, open_store
from components.errors import DigestMismatchError, IntegrityError, ObjectMissingError


def orthonormal(rows: int, columns: int, seed: int = 5) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).normal(size=(columns, rows))
    return np.ascontiguousarray(np.linalg.qr(drawn)[0].T, np.float32)


GOOD = Projection(matrix=orthonormal(3, 8), corpus="ab" * 32, encoder="cd" * 32)


@pytest.fixture
def exchange(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "exchange"))


def test_what_is_published_is_read_under_its_digest(exchange: Store) -> None:
    name = publish_projection(exchange, GOOD)
    assert publish_projection(exchange, GOOD) == name == digest(GOOD.to_bytes())
    assert list(exchange.keys("projections")) == [projection_key(name)]
    found = read_projection(exchange, name)
    assert np.array_equal(found.matrix, GOOD.matrix)
    assert (found.corpus, found.encoder, found.dimensions, found.full_dimensions) == (
        "ab" * 32,
        "cd" * 32,
        3,
        8,
    )


@pytest.mark.parametrize("shape", [(1, 2), (192, 384), (383, 384)], ids=str)
def test_rounding_to_float32_is_no_reason_to_refuse(shape: tuple[int, int]) -> None:
    assert read_bytes(replace(GOOD, matrix=orthonormal(*shape)).to_bytes()).dimensions == shape[0]


@pytest.mark.parametrize(
    ("matrix", "told"),
    [
        (orthonormal(3, 8) * np.float32(1.001), "off by 2.0e-03"),
        (orthonormal(3, 8)[[0, 1, 0]], "are off by 1.0e"),
        (np.zeros((3, 8), np.float32), "off by 1.0e"),
        (np.eye(3, 8, dtype=np.float32) * np.float32(np.nan), "is finite, this is not"),
        (np.full((3, 8), np.inf, np.float32), "is finite, this is not"),
        (np.eye(8, dtype=np.float32), r"fewer rows than columns, this is float32 \(8, 8\)"),
        (np.eye(8, 3, dtype=np.float32), "fewer rows than columns"),
        (np.ones((0, 8), np.float32), "fewer rows than columns"),
        (np.ones(8, np.float32), "fewer rows than columns"),
        (np.eye(3, 8), "float32 matrix .* this is float64"),
    ],
    ids=["long", "twice", "zero", "NaN", "infinite", "square", "wide", "none", "flat", "double"],
)
def test_what_is_no_projection_is_refused_and_not_published(
    exchange: Store, matrix: NDArray[np.float32], told: str
) -> None:
    with pytest.raises(IntegrityError, match=told):
        publish_projection(exchange, replace(GOOD, matrix=matrix))
    assert list(exchange.keys("projections")) == []


def test_one_altered_value_under_its_name_is_refused(exchange: Store) -> None:
    content = bytearray(GOOD.to_bytes())
    content[-1] ^= 1
    exchange.create(projection_key(digest(GOOD.to_bytes())), bytes(content))
    with pytest.raises(DigestMismatchError, match=f"another digest than {digest(GOOD.to_bytes())[:12]}"):
        read_projection(exchange, digest(GOOD.to_bytes()))
    with pytest.raises(ObjectMissingError):
        read_projection(exchange, "ab" * 32)


def test_another_file_is_none() -> None:
    whole = tensors.decode_any(GOOD.to_bytes())
    with pytest.raises(
        IntegrityError, match="has the tensors corpus, encoder and projection, this has corpus"
    ):
        read_bytes(tensors.encode({"corpus": whole["corpus"]}))
    with pytest.raises(IntegrityError, match="names its corpus by the 32 bytes of a SHA-256"):
        read_bytes(tensors.encode(whole | {"corpus": whole["corpus"][:31]}))
    with pytest.raises(IntegrityError, match="not in safetensors format"):
        read_bytes(b"[]")
