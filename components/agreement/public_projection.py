"""The public projection of features to fewer, by the digest that the charter names.

A matrix with orthonormal rows, made once of a public corpus where the charter is proposed: eigenvectors that
two machines compute of the same texts differ in sign and rounding, and every site must have the same. It is
fixed before any site reads a row, so nothing of a row is in it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import DigestMismatchError, IntegrityError, ObjectExistsError

MAX_MATRIX_BYTES: Final = 2**27
"""4,096 of 8,192 directions."""
_MAX_BYTES: Final = MAX_MATRIX_BYTES + 2**12
_MATRIX, _CORPUS, _ENCODER = "projection", "corpus", "encoder"
_ROUNDING: Final = 1e-4
"""Of inner products: float32 rows of width d are off by at most about √d · 2⁻²⁴, 1.5e-5 for d = 65,536."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """What features are multiplied by, and what it was made of.

    Attributes:
        matrix: float32, (d', d), d' < d; its rows are orthonormal.
        corpus: SHA-256 of the public texts.
        encoder: SHA-256 of the language model's weights.
    """

    matrix: NDArray[np.float32]
    corpus: str
    encoder: str

    @property
    def dimensions(self) -> int:
        """d', width of what is projected."""
        return int(self.matrix.shape[0])

    @property
    def full_dimensions(self) -> int:
        """d, width of the encoder's features."""
        return int(self.matrix.shape[1])

    def to_bytes(self) -> bytes:
        """As it is published: safetensors."""
        named = {_CORPUS: self.corpus, _ENCODER: self.encoder}
        texts = {name: np.frombuffer(bytes.fromhex(value), np.uint8) for name, value in named.items()}
        return tensors.encode({_MATRIX: self.matrix, **texts})


def projection_key(projection: str) -> str:
    """Where a projection lies in the exchange, by its SHA-256."""
    return f"projections/{projection}.safetensors"


def read_bytes(content: bytes) -> Projection:
    """Reads what `Projection.to_bytes` wrote.

    Raises:
        IntegrityError: it is no such file, not finite, no narrower than it is wide, or its rows are not
            orthonormal.
    """
    found = tensors.decode_any(content)
    if found.keys() != {_MATRIX, _CORPUS, _ENCODER}:
        raise IntegrityError(
            f"a public projection has the tensors {_CORPUS}, {_ENCODER} and {_MATRIX}, "
            f"this has {', '.join(sorted(found)) or 'none'}"
        )
    for name in (_CORPUS, _ENCODER):
        if found[name].dtype != np.uint8 or found[name].shape != (32,):
            raise IntegrityError(f"a public projection names its {name} by the 32 bytes of a SHA-256")
    matrix = found[_MATRIX]
    if matrix.dtype != np.float32 or matrix.ndim != 2 or not 1 <= matrix.shape[0] < matrix.shape[1]:
        raise IntegrityError(
            "a public projection is a float32 matrix of fewer rows than columns, "
            f"this is {matrix.dtype} {matrix.shape}"
        )
    exact = matrix.astype(np.float64)
    if not np.isfinite(exact).all():
        raise IntegrityError("a public projection is finite, this is not")
    deviation = float(np.abs(exact @ exact.T - np.eye(len(exact))).max())
    if deviation > _ROUNDING:
        raise IntegrityError(
            "the rows of a public projection are orthonormal, inner products of these are off by "
            f"{deviation:.1e}: have it made again ('crosscloud charter new')"
        )
    return Projection(
        matrix=matrix.astype(np.float32, copy=False),
        corpus=found[_CORPUS].tobytes().hex(),
        encoder=found[_ENCODER].tobytes().hex(),
    )


def publish_projection(exchange: Store, projection: Projection) -> str:
    """Puts a projection into the exchange where it is not there yet; returns its SHA-256.

    Raises:
        IntegrityError: see `read_bytes`.
    """
    content = projection.to_bytes()
    read_bytes(content)
    name = digest(content)
    with contextlib.suppress(ObjectExistsError):
        exchange.create(projection_key(name), content)
    return name


def read_projection(exchange: Store, projection: str) -> Projection:
    """The projection with this SHA-256.

    Raises:
        DigestMismatchError: what lies there is another.
        IntegrityError: see `read_bytes`.
        ObjectMissingError: nobody has published it.
    """
    content = exchange.read(projection_key(projection), limit=_MAX_BYTES)
    if digest(content) != projection:
        raise DigestMismatchError(
            f"the public projection in the exchange has another digest than {projection[:12]}"
        )
    return read_bytes(content)
