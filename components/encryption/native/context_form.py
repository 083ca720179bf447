"""The one serialisation that a public context of a protection may have, checked before SEAL parses it.

TenSEAL's protocol buffer around SEAL's public key, as `keys init` makes it: every byte follows from the
protection but the words of the key, and each word must be below its prime. So SEAL parses no length, no
parameter and no compressed block that the key holder, or who holds his signing key, made up.

    protocol buffer  encryption parameters (SEAL's, in a zstd frame: 73 or 67 bytes), the public part
    SEAL header      magic 0xA15E, 16 bytes, version 4.3, compression zstd, payload size
    zstd frame       content size, no checksum, raw blocks of 128 KiB (uniform words do not compress)
    SEAL public key  parameters' hash, NTT form, 2 polynomials, degree, 2 primes, scale, factor 1
    SEAL array       a header of its own, uncompressed; number of words; the words
    protocol buffer  TenSEAL's own settings and scale

The words are b modulo the first prime, b modulo the second, then a likewise.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from components.encryption.native.seal_words import (
    MODULUS,
    RING_DEGREE,
    UNCOMPRESSED,
    ZSTD,
    ZSTD_BLOCK,
    seal_header,
    varint,
    zstd_block,
)
from components.errors import CiphertextError

SECOND_MODULUS: Final = 1152921504606830593
"""The prime that only takes part in encrypting."""
_WORDS: Final = 4 * RING_DEGREE


@dataclass(frozen=True, kw_only=True)
class ContextForm:
    """How the public contexts of one protection are written.

    Attributes:
        scheme: SEAL's number of it: 1 for BFV, 2 for CKKS.
        plain_modulus: modulus of the plaintext, zero where the scheme has none.
        parameters: the encryption parameters as SEAL 4.3 writes them, zstd frame and all.
        scale: TenSEAL's global scale, -1 where it has none.
    """

    scheme: int
    plain_modulus: int
    parameters: bytes
    scale: float

    def require(self, public_context: bytes) -> None:
        """Pass a public context of this form.

        Raises:
            CiphertextError: It is of another length or form, or a word is not below its prime.
        """
        if len(public_context) != self.size:
            raise CiphertextError(f"it has {len(public_context)} bytes, not {self.size}")
        content, position = bytearray(), 0
        for fixed, size in self._pieces:
            if public_context[position : position + len(fixed)] != fixed:
                raise CiphertextError("its parameters or its form are others")
            position += len(fixed)
            content += public_context[position : position + size]
            position += size
        # Polynomials, primes, coefficients.
        words = np.frombuffer(content, "<u8").reshape(2, 2, RING_DEGREE)
        if (words.max(axis=(0, 2)) >= np.array([MODULUS, SECOND_MODULUS], np.uint64)).any():
            raise CiphertextError("it holds words that no public key has")

    @cached_property
    def size(self) -> int:
        """Bytes of every public context of this form."""
        return sum(len(fixed) + size for fixed, size in self._pieces)

    @cached_property
    def _pieces(self) -> list[tuple[bytes, int]]:
        """Fixed bytes, and how many bytes of words follow them."""
        head = self._key_head()
        content_bytes = len(head) + 8 * _WORDS
        frame = bytes.fromhex("28b52ffda0") + struct.pack("<I", content_bytes)
        blocks = list(_raw_blocks(content_bytes))
        key_bytes = len(seal_header(ZSTD, 0)) + len(frame) + sum(len(block) + size for block, size in blocks)
        key = b"\x0a" + varint(key_bytes) + seal_header(ZSTD, key_bytes) + frame
        after = b"\x10\x07\x19" + struct.pack("<d", self.scale)
        public_bytes = 1 + len(varint(key_bytes)) + key_bytes + len(after)
        before = (
            b"\x0a" + varint(len(self.parameters)) + self.parameters + b"\x12" + varint(public_bytes) + key
        )
        (first, first_bytes), *others = blocks
        return [(before + first + head, first_bytes - len(head)), *others, (after, 0)]

    def _key_head(self) -> bytes:
        primes = struct.pack("<5Q", self.scheme, RING_DEGREE, MODULUS, SECOND_MODULUS, self.plain_modulus)
        named = hashlib.blake2b(primes, digest_size=32).digest()
        fields = struct.pack("<?3QdQ", True, 2, RING_DEGREE, 2, 1.0, 1)
        array = seal_header(UNCOMPRESSED, 16 + 8 + 8 * _WORDS) + struct.pack("<Q", _WORDS)
        return named + fields + array


def _raw_blocks(content_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Headers of the blocks of a zstd frame that compresses nothing, and how many bytes each block has."""
    for start in range(0, content_bytes, ZSTD_BLOCK):
        size = min(ZSTD_BLOCK, content_bytes - start)
        yield zstd_block(size, last=start + size == content_bytes), size
