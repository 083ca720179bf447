"""A CKKS ciphertext as the 16,384 words it consists of, and the only serialisation they can have.

SEAL's parser is not safe on bytes from elsewhere: mutated ciphertexts crash it, and a forged size
field makes it return memory that is not the ciphertext's. So no serialisation of SEAL crosses a
boundary here. What is sent are the two polynomials of a ciphertext in NTT form, word by word, each
below the modulus; the receiver itself writes the fixed bytes that TenSEAL expects around them:

    protocol buffer  sizes = [4096], one ciphertext, scale as a double
    SEAL header      magic 0xA15E, 16 bytes, version 4.3, compression zstd, payload size
    zstd frame       content size, no checksum, raw blocks (uniform words do not compress)
    SEAL ciphertext  parameters' hash, NTT form, 2 polynomials, degree, 1 prime, scale, factor 1
    SEAL array       a header of its own, uncompressed; number of words; the words

A sealer takes the words out of a new ciphertext only if its serialisation is exactly this one. The
parameters' hash (BLAKE2b-256 of scheme, degree, prime and plaintext modulus) binds the scheme, so a
ciphertext of other parameters cannot pass for one of ours. Whether it was made with the public or
with the secret key does not show in it: that a site holds no secret key is checked on its context.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.errors import CiphertextError

RING_DEGREE: Final = 8192
SLOTS: Final = RING_DEGREE // 2
SCALE: Final = 2.0**31
MODULUS: Final = 1152921504606748673
"""The first of SEAL's two 60-bit primes for this degree; the second only takes part in encrypting."""
WORDS: Final = 2 * RING_DEGREE
CIPHERTEXT_BYTES: Final = WORDS * 8

_CKKS = 2
_UNCOMPRESSED, _ZSTD = 0, 2
_ZSTD_BLOCK = 1 << 17


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _seal_header(compression: int, size: int) -> bytes:
    return struct.pack("<HBBBBHQ", 0xA15E, 16, 4, 3, compression, 0, size)


def _zstd_block(size: int, *, last: bool) -> bytes:
    return (size << 3 | last).to_bytes(3, "little")


def _ciphertext_head() -> bytes:
    """What SEAL writes before the words: 97 bytes."""
    parameters = struct.pack("<4Q", _CKKS, RING_DEGREE, MODULUS, 0)
    parameters_hash = hashlib.blake2b(parameters, digest_size=32).digest()
    fields = struct.pack("<?3QdQ", True, 2, RING_DEGREE, 1, SCALE, 1)
    array = _seal_header(_UNCOMPRESSED, 16 + 8 + CIPHERTEXT_BYTES) + struct.pack("<Q", WORDS)
    return parameters_hash + fields + array


def _envelope() -> tuple[bytes, int, bytes, bytes]:
    """Return what precedes the words, after how many of their bytes what interrupts them, what ends it."""
    head = _ciphertext_head()
    content_bytes = len(head) + CIPHERTEXT_BYTES
    rest = content_bytes - _ZSTD_BLOCK
    zstd_head = bytes.fromhex("28b52ffda0") + struct.pack("<I", content_bytes)
    payload_bytes = len(zstd_head) + 3 + _ZSTD_BLOCK + 3 + rest
    seal_bytes = 16 + payload_bytes
    sizes = _varint(SLOTS)
    before = b"".join(
        (
            b"\x0a" + _varint(len(sizes)) + sizes,
            b"\x12" + _varint(seal_bytes) + _seal_header(_ZSTD, seal_bytes),
            zstd_head + _zstd_block(_ZSTD_BLOCK, last=False) + head,
        )
    )
    return before, _ZSTD_BLOCK - len(head), _zstd_block(rest, last=True), b"\x19" + struct.pack("<d", SCALE)


_BEFORE, _FIRST, _BETWEEN, _AFTER = _envelope()


def ciphertext_words(serialised: bytes) -> NDArray[np.uint64]:
    """Take the words out of one freshly encrypted, serialised `CKKSVector` of 4096 values.

    Returns:
        Shape (16384,), each below `MODULUS`: c0, then c1.

    Raises:
        CiphertextError: It is not the serialisation of a ciphertext of these parameters.
    """
    cut = len(_BEFORE) + _FIRST
    content = serialised[len(_BEFORE) : cut] + serialised[cut + len(_BETWEEN) : -len(_AFTER)]
    if len(content) != CIPHERTEXT_BYTES:
        raise CiphertextError(
            f"TenSEAL wrote a ciphertext of {len(serialised)} bytes, not as 0.3.18 does: nothing was sealed"
        )
    words = np.frombuffer(content, "<u8").astype(np.uint64)
    if serialised_ciphertext(words) != serialised:
        raise CiphertextError(
            "TenSEAL wrote a ciphertext of other parameters or another form: nothing was sealed"
        )
    if not words[RING_DEGREE:].any():
        raise CiphertextError("TenSEAL wrote a ciphertext that anybody can read (c1 = 0): nothing was sealed")
    return words


def serialised_ciphertext(words: NDArray[np.uint64]) -> bytes:
    """Write the serialisation of a `CKKSVector` of 4096 values around the words of its ciphertext.

    Raises:
        CiphertextError: They are not 16,384 words below `MODULUS`.
    """
    if words.shape != (WORDS,):
        raise CiphertextError(f"a ciphertext has {WORDS} words, got {words.shape}: damaged, seal it again")
    require_residues(words)
    content = words.astype("<u8").tobytes()
    return b"".join((_BEFORE, content[:_FIRST], _BETWEEN, content[_FIRST:], _AFTER))


def require_residues(words: NDArray[np.uint64]) -> None:
    """Pass words that are all below the modulus.

    Raises:
        CiphertextError: One is not, which no ciphertext of these parameters has.
    """
    if not (words < MODULUS).all():
        raise CiphertextError("a sealed update holds words that no ciphertext has: damaged, seal it again")
