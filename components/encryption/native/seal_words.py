"""A SEAL ciphertext as the 16,384 words it consists of, and the only serialisation they can have.

SEAL's parser is not safe on bytes from elsewhere: mutated ciphertexts crash it, and a forged size
field makes it return memory that is not the ciphertext's. So no serialisation of SEAL crosses a
boundary here. What is sent are the two polynomials of a ciphertext, word by word, each below the
modulus; the receiver itself writes the fixed bytes that SEAL or TenSEAL expects around them:

    protocol buffer  of TenSEAL's vectors (`he`): sizes = [slots], one ciphertext, the scale
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
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.errors import CiphertextError

RING_DEGREE: Final = 8192
MODULUS: Final = 1152921504606748673
"""The first of SEAL's two 60-bit primes for this degree; the second only takes part in encrypting."""
WORDS: Final = 2 * RING_DEGREE
CIPHERTEXT_BYTES: Final = WORDS * 8

UNCOMPRESSED: Final = 0
ZSTD: Final = 2
"""SEAL's numbers of the compressions it writes and reads."""

ZSTD_BLOCK: Final = 1 << 17
"""Largest block of a zstd frame."""


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """The bytes that TenSEAL writes around the words of every new ciphertext of one scheme.

    Attributes:
        before: What precedes the words.
        first: After how many bytes of the words `between` interrupts them.
        between: What interrupts them.
        after: What ends it.
    """

    before: bytes
    first: int
    between: bytes
    after: bytes

    def opened(self, serialised: bytes) -> bytes:
        """Take the words out of one freshly encrypted, serialised ciphertext.

        Returns:
            16,384 words of eight bytes, little-endian, each below `MODULUS`: c0, then c1.

        Raises:
            CiphertextError: It is not the serialisation of a ciphertext of these parameters.
        """
        cut = len(self.before) + self.first
        end = len(serialised) - len(self.after)
        whole = memoryview(serialised)
        content = b"".join((whole[len(self.before) : cut], whole[cut + len(self.between) : end]))
        if len(content) != CIPHERTEXT_BYTES:
            raise CiphertextError(
                f"TenSEAL wrote a ciphertext of {len(serialised)} bytes, not as 0.3.18 does: "
                "nothing was sealed"
            )
        if not (
            serialised.startswith(self.before)
            and serialised.startswith(self.between, cut)
            and serialised.endswith(self.after)
        ):
            raise CiphertextError(
                "TenSEAL wrote a ciphertext of other parameters or another form: nothing was sealed"
            )
        words = np.frombuffer(content, "<u8")
        require_residues(words)
        if not words[RING_DEGREE:].any():
            raise CiphertextError(
                "TenSEAL wrote a ciphertext that anybody can read (c1 = 0): nothing was sealed"
            )
        return content

    def around(self, words: NDArray[np.uint64]) -> bytes:
        """Write the serialisation of a ciphertext around its words.

        Raises:
            CiphertextError: They are not 16,384 words below `MODULUS`.
        """
        if words.shape != (WORDS,):
            raise CiphertextError(
                f"a ciphertext has {WORDS} words, got {words.shape}: damaged, seal it again"
            )
        require_residues(words)
        content = words.astype("<u8").tobytes()
        return b"".join((self.before, content[: self.first], self.between, content[self.first :], self.after))


def seal_envelope(*, scheme: int, plain_modulus: int, ntt_form: bool, scale: float) -> Envelope:
    """Compute the envelope that SEAL itself writes around a scheme's ciphertexts.

    Args:
        scheme: SEAL's number of it: 1 for BFV, 2 for CKKS.
        plain_modulus: Modulus of the plaintext, zero where the scheme has none.
        ntt_form: Whether its polynomials are written in NTT form.
        scale: Scale of its encoding, one where the scheme has none.
    """
    head = _ciphertext_head(scheme=scheme, plain_modulus=plain_modulus, ntt_form=ntt_form, scale=scale)
    content_bytes = len(head) + CIPHERTEXT_BYTES
    rest = content_bytes - ZSTD_BLOCK
    zstd_head = bytes.fromhex("28b52ffda0") + struct.pack("<I", content_bytes)
    seal_bytes = 16 + len(zstd_head) + 3 + ZSTD_BLOCK + 3 + rest
    return Envelope(
        before=seal_header(ZSTD, seal_bytes) + zstd_head + zstd_block(ZSTD_BLOCK, last=False) + head,
        first=ZSTD_BLOCK - len(head),
        between=zstd_block(rest, last=True),
        after=b"",
    )


def tenseal_envelope(inner: Envelope, *, slots: int, after: bytes) -> Envelope:
    """Compute the envelope of a vector of TenSEAL that consists of one ciphertext.

    Args:
        inner: What SEAL writes around the ciphertext.
        slots: Values that TenSEAL encrypts into one ciphertext; it states them.
        after: What its protocol buffer has after the ciphertext.
    """
    sizes = varint(slots)
    seal_bytes = len(inner.before) + CIPHERTEXT_BYTES + len(inner.between)
    before = b"\x0a" + varint(len(sizes)) + sizes + b"\x12" + varint(seal_bytes) + inner.before
    return replace(inner, before=before, after=after)


def parameters_hash(*, scheme: int, plain_modulus: int) -> bytes:
    """SEAL's hash of the parameters of a ciphertext: BLAKE2b, 32 bytes, of scheme, degree and moduli."""
    parameters = struct.pack("<4Q", scheme, RING_DEGREE, MODULUS, plain_modulus)
    return hashlib.blake2b(parameters, digest_size=32).digest()


def seal_header(compression: int, size: int) -> bytes:
    """SEAL's own 16 bytes in front of everything it writes; `size` counts them too."""
    return struct.pack("<HBBBBHQ", 0xA15E, 16, 4, 3, compression, 0, size)


def require_residues(words: NDArray[np.uint64]) -> None:
    """Pass words that are all below the modulus.

    Raises:
        CiphertextError: One is not, which no ciphertext of these parameters has.
    """
    if words.size and words.max() >= MODULUS:
        raise CiphertextError("a sealed update holds words that no ciphertext has: damaged, seal it again")


def add_residues(total: NDArray[np.uint64], words: NDArray[np.uint64]) -> None:
    """Add `words` to `total` modulo `MODULUS`, in place; both are below it."""
    total += words
    # Words are below 2 * MODULUS; of one below MODULUS the difference wraps and is the larger.
    np.minimum(total, total - np.uint64(MODULUS), out=total)


def varint(value: int) -> bytes:
    """A protocol buffer's number."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def zstd_block(size: int, *, last: bool) -> bytes:
    """Header of a block of a zstd frame that compresses nothing."""
    return (size << 3 | last).to_bytes(3, "little")


def _ciphertext_head(*, scheme: int, plain_modulus: int, ntt_form: bool, scale: float) -> bytes:
    """What SEAL writes before the words: 97 bytes."""
    named = parameters_hash(scheme=scheme, plain_modulus=plain_modulus)
    fields = struct.pack("<?3QdQ", ntt_form, 2, RING_DEGREE, 1, scale, 1)
    array = seal_header(UNCOMPRESSED, 16 + 8 + CIPHERTEXT_BYTES) + struct.pack("<Q", WORDS)
    return named + fields + array
