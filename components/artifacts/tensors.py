"""Named tensors as files and as one flat vector."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from components.errors import IntegrityError

MAX_HEADER_BYTES = 1 << 20
_CHUNK_VALUES = 1 << 17
Tensors = dict[str, NDArray[np.float32]]


def encode(tensors: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Safetensors bytes; the same tensors give the same bytes."""
    return bytes(
        safetensors.numpy.save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)})
    )


def decode_any(content: bytes) -> dict[str, NDArray[np.generic]]:
    """Named arrays of any type.

    Raises:
        IntegrityError: `content` is not a safetensors file.
    """
    try:
        return dict(safetensors.numpy.load(content))
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError("a tensor file is not in safetensors format") from error


def decode(content: bytes) -> Tensors:
    """Named float32 arrays.

    Raises:
        IntegrityError: `content` is not a safetensors file, or holds another type than float32.
    """
    tensors: Tensors = {}
    for name, values in decode_any(content).items():
        if values.dtype != np.float32:
            raise IntegrityError(f"tensor {name} must be float32, got {values.dtype}")
        tensors[name] = values.astype(np.float32, copy=False)
    return tensors


def flatten(tensors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """All values as one float64 vector of shape (d,), tensors in the order of their names."""
    return np.concatenate([tensors[name].astype(np.float64).ravel() for name in sorted(tensors)])


def read_shapes(source: BinaryIO) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a safetensors file, from the header it begins with; reads no further.

    Raises:
        IntegrityError: it does not begin with such a header.
    """
    size = int.from_bytes(_exactly(source, 8), "little")
    if size > MAX_HEADER_BYTES:
        raise IntegrityError("a tensor file is not in safetensors format")
    try:
        entries = json.loads(_exactly(source, size))
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError("a tensor file is not in safetensors format") from error
    if any(type(length) is not int or length < 0 for shape in shapes.values() for length in shape):
        raise IntegrityError("a tensor file is not in safetensors format")
    return shapes


def _exactly(source: BinaryIO, size: int) -> bytes:
    content = b""
    while len(content) < size and (part := source.read(size - len(content))):
        content += part
    return content


def unflatten(
    vector: NDArray[np.float64], like: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """Inverse of `flatten` in float64, with the names and shapes of `like`.

    Raises:
        IntegrityError: `vector` does not have as many values as `like`.
    """
    length = sum(values.size for values in like.values())
    if vector.shape != (length,):
        raise IntegrityError(f"an update must have {length} values for this model, got shape {vector.shape}")
    tensors, start = {}, 0
    for name in sorted(like):
        stop = start + like[name].size
        tensors[name] = vector[start:stop].reshape(like[name].shape)
        start = stop
    return tensors


def vector_chunks(name: str, values: NDArray[np.float64]) -> Iterator[bytes]:
    """The bytes of `encode` for one float64 vector, a part at a time: a long one is not copied as a whole."""
    little = values.astype("<f8", copy=False)
    entry = {"dtype": "F64", "shape": [values.size], "data_offsets": [0, 8 * values.size]}
    header = json.dumps({name: entry}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    yield len(header).to_bytes(8, "little") + header
    for start in range(0, values.size, _CHUNK_VALUES):
        yield little[start : start + _CHUNK_VALUES].tobytes()
