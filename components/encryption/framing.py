"""The header that every sealed update begins with, so that it can be judged before it is parsed.

    offset  bytes  field
    0       8      b"XCSEALED"
    8       2      format version, little-endian, 1
    10      14     name of the protection, ASCII, padded with zero bytes
    24      32     SHA-256 of the public context
    56      8      length: values in the sealed vector
    64      8      parts: ciphertexts in the body
    72      8      part_bytes: bytes of each part
    80             body: parts x part_bytes

Everything in it follows from the protection, the public context and the length, so a blob is
compared with the one header it may have, byte for byte.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import BinaryIO

from components.errors import CiphertextError

MAGIC = b"XCSEALED"
FORMAT_VERSION = 1
_HEADER = struct.Struct("<8sH14s32sQQQ")
HEADER_BYTES = _HEADER.size


def context_fingerprint(public_context: bytes) -> str:
    """SHA-256 of a public context, hexadecimal: what a sealed update says it was sealed for."""
    return hashlib.sha256(public_context).hexdigest()


def read_exactly(source: BinaryIO, size: int) -> bytes:
    """Read `size` bytes from a source that may return fewer than it is asked for; fewer only at its end.

    What is returned is shorter than `size` where the source is: callers compare.
    """
    content = source.read(size)
    if len(content) == size:
        return content
    pieces = [content]
    missing = size - len(content)
    while missing and pieces[-1]:
        pieces.append(source.read(missing))
        missing -= len(pieces[-1])
    return b"".join(pieces)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The header that a sealed vector of one protection, public context and length must have.

    Attributes:
        protection: Name of the protection, at most 14 ASCII characters.
        fingerprint: SHA-256 of the public context, hexadecimal.
        length: Values in the sealed vector.
        parts: Ciphertexts in the body.
        part_bytes: Bytes of each of them.
    """

    protection: str
    fingerprint: str
    length: int
    parts: int
    part_bytes: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"a sealed vector has at least one value, got length {self.length}")

    @property
    def size(self) -> int:
        """Bytes of header and body."""
        return HEADER_BYTES + self.parts * self.part_bytes

    def read_header(self, source: BinaryIO) -> None:
        """Read the header off a source, which is left at the first part.

        The parts and the end of the source are the caller's to check.

        Raises:
            CiphertextError: It is not the header of this frame.
        """
        header = read_exactly(source, HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            raise CiphertextError(
                f"{len(header)} bytes are less than a header ({HEADER_BYTES}): "
                "no sealed update, seal it again"
            )
        if header != self.header():
            raise CiphertextError(self._difference(header))

    def header(self) -> bytes:
        """Return the only header that this frame has."""
        return _HEADER.pack(
            MAGIC,
            FORMAT_VERSION,
            self.protection.encode("ascii"),
            bytes.fromhex(self.fingerprint),
            self.length,
            self.parts,
            self.part_bytes,
        )

    def _difference(self, header: bytes) -> str:
        magic, version, name, fingerprint, length, parts, part_bytes = _HEADER.unpack(header)
        if magic != MAGIC or version != FORMAT_VERSION:
            return f"not a sealed update of format {FORMAT_VERSION}: seal it again with this version"
        if name != self.protection.encode("ascii").ljust(len(name), b"\0"):
            return (
                f"sealed under {name.rstrip(bytes(1))!r}, this round uses {self.protection!r}: seal it again"
            )
        if fingerprint.hex() != self.fingerprint:
            return (
                f"sealed for context {fingerprint.hex()[:12]}, this federation's is {self.fingerprint[:12]}: "
                "seal it again for the key in use"
            )
        if length != self.length:
            return f"{length} values are sealed, {self.length} are due: the update is not one of this model"
        return (
            f"{parts} parts of {part_bytes} bytes are announced, {self.parts} of {self.part_bytes} are due: "
            "seal it again"
        )
