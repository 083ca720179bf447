"""TenSEAL's vectors around ciphertexts of SEAL, for tests that let TenSEAL work on them."""

from __future__ import annotations

from typing import Any

import tenseal


def vector_from(context: Any, ciphertext: bytes) -> Any:
    """A `BFVVector` of 8192 values that consists of one ciphertext, as SEAL serialises it."""
    size, rest = bytearray(), len(ciphertext)
    while rest > 127:
        size.append(rest & 127 | 128)
        rest >>= 7
    return tenseal.bfv_vector_from(context, b"\x0a\x02\x80\x40\x12" + bytes([*size, rest]) + ciphertext)


def ciphertext_of(vector: Any) -> bytes:
    """The ciphertext in a vector that consists of one, as SEAL serialises it."""
    content: bytes = vector.serialize()
    return content[content.index(b"\x5e\xa1\x10\x04") :]
