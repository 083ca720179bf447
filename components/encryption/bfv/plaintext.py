"""A BFV plaintext of protection `sealed`: 8192 slots modulo p, and the serialisation SEAL has for them.

A slot is a coefficient of the plaintext's polynomial. Sums need nothing else: BFV adds coefficient by
coefficient modulo p. Batching, the transform that makes a product of polynomials one of slots, is a
bijection that is linear modulo p, so uniform masks hide either form alike, and leaving it out saves
both transforms.

    SEAL header  magic 0xA15E, 16 bytes, version 4.3, compression, payload size
    payload      no parameters' hash (32 zeros), number of coefficients, scale 1
    SEAL array   a header of its own, uncompressed; number of words; the words

SEAL reads it without compression and writes it as a zstd frame, without the zeros at its end.
"""

from __future__ import annotations

import struct
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.encryption.bfv.packing import BLOCK_SLOTS, PLAIN_MODULUS
from components.encryption.native.seal_words import UNCOMPRESSED, ZSTD, seal_header
from components.errors import CiphertextError, UsageError

_HEAD = struct.Struct("<32xQd16sQ")
_SEAL_HEADER_BYTES: Final = 16


def _inner_header(coefficients: int) -> bytes:
    return seal_header(UNCOMPRESSED, _SEAL_HEADER_BYTES + 8 + 8 * coefficients)


_FULL_BYTES: Final = _SEAL_HEADER_BYTES + _HEAD.size + 8 * BLOCK_SLOTS
_FULL_HEAD: Final = seal_header(UNCOMPRESSED, _FULL_BYTES) + _HEAD.pack(
    BLOCK_SLOTS, 1.0, _inner_header(BLOCK_SLOTS), BLOCK_SLOTS
)


def serialised_plaintext(slots: NDArray[np.uint64]) -> bytes:
    """Write the plaintext of a block, shape (8192,), below p; SEAL refuses to load it otherwise."""
    return _FULL_HEAD + slots.astype("<u8", copy=False).tobytes()


def plaintext_slots(serialised: bytes) -> NDArray[np.uint64]:
    """Read a plaintext that SEAL has just written.

    Returns:
        Shape (8192,), below p.

    Raises:
        CiphertextError: It is not the serialisation of a plaintext of these parameters.
        UsageError: The package zstandard is not installed.
    """
    header, payload = serialised[:_SEAL_HEADER_BYTES], serialised[_SEAL_HEADER_BYTES:]
    if header != seal_header(ZSTD, len(serialised)):
        raise _unknown()
    content = _decompressed(payload)
    if len(content) < _HEAD.size:
        raise _unknown()
    coefficients, scale, inner, words = _HEAD.unpack_from(content)
    whole = len(content) == _HEAD.size + 8 * coefficients and words == coefficients <= BLOCK_SLOTS
    if not whole or scale != 1.0 or inner != _inner_header(coefficients):
        raise _unknown()
    slots = content[_HEAD.size :] + bytes(8 * (BLOCK_SLOTS - coefficients))
    return require_slots(slots)


def require_slots(content: bytes) -> NDArray[np.uint64]:
    """Read the slots of a decrypted block, eight bytes each.

    Returns:
        Shape (8192,), below p.

    Raises:
        CiphertextError: They are not so many, or one is not below p.
    """
    if len(content) != 8 * BLOCK_SLOTS:
        raise _unknown()
    slots = np.frombuffer(content, "<u8").astype(np.uint64)
    if slots.max() >= PLAIN_MODULUS:
        raise _unknown()
    return slots


def load_zstandard() -> ModuleType:
    """Import zstandard, which is not in every image.

    Raises:
        UsageError: It is not installed.
    """
    try:
        import zstandard
    except ImportError as error:
        raise UsageError(
            "opening under sealed needs zstandard: pip install 'crosscloud[encryption]'"
        ) from error
    return zstandard


def _decompressed(payload: bytes) -> bytes:
    zstandard = load_zstandard()
    try:
        content: bytes = zstandard.ZstdDecompressor().decompress(payload, max_output_size=_FULL_BYTES)
    except zstandard.ZstdError:
        raise _unknown() from None
    return content


def _unknown() -> CiphertextError:
    return CiphertextError("TenSEAL wrote a plaintext of another form than 0.3.18 does: nothing was opened")
