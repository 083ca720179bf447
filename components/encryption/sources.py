"""Sealed vectors read from front to back: never more of one in memory than a part.

What is wrong with the end of a source shows at its end, so a result that was made on the way counts
only once the source has been read to its end without an error.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from components.encryption.framing import Frame, read_exactly
from components.encryption.native.seal_words import CIPHERTEXT_BYTES, add_residues, require_residues
from components.errors import CiphertextError


def read_part(source: BinaryIO, size: int) -> bytes:
    """Read the next `size` bytes.

    Raises:
        CiphertextError: The source ends before.
    """
    content = read_exactly(source, size)
    if len(content) != size:
        raise CiphertextError("a sealed update ends before its header says: truncated, seal it again")
    return content


def fill(source: BinaryIO, target: memoryview) -> None:
    """Read as many bytes as `target` has straight into it, without a copy where the source can do that.

    Raises:
        CiphertextError: The source ends before.
    """
    filled = 0
    if isinstance(source, io.BufferedIOBase):
        while filled < len(target) and (count := source.readinto(target[filled:])):
            filled += count
    target[filled:] = read_part(source, len(target) - filled)


def require_end(source: BinaryIO) -> None:
    """Pass a source that has been read to its end.

    Raises:
        CiphertextError: There is more.
    """
    if source.read(1):
        raise CiphertextError("a sealed update goes on after its last part: padded, seal it again")


def read_words(source: BinaryIO) -> NDArray[np.uint64]:
    """Read one ciphertext.

    Returns:
        Shape (16384,), each below the modulus; read-only.

    Raises:
        CiphertextError: The source ends before, or a word is one that no ciphertext has.
    """
    words = np.frombuffer(read_part(source, CIPHERTEXT_BYTES), "<u8")
    require_residues(words)
    return words


def check_ciphertexts(source: BinaryIO, frame: Frame) -> None:
    """Read a sealed vector of ciphertexts to its end.

    Raises:
        CiphertextError: It is not one of this frame; no parser of a library has touched it.
    """
    frame.read_header(source)
    for _ in range(frame.parts):
        read_words(source)
    require_end(source)


def added_ciphertexts(sources: Sequence[BinaryIO], frame: Frame) -> Iterator[bytes]:
    """Add sealed vectors word by word modulo the prime; the headers are read at once, the rest on demand.

    Returns:
        The header, then one ciphertext after the other.

    Raises:
        CiphertextError: A source is not one of this frame.
        ValueError: No sources.
    """
    if not sources:
        raise ValueError("a sum needs at least one sealed update")
    for source in sources:
        frame.read_header(source)
    return _added(sources, frame)


def _added(sources: Sequence[BinaryIO], frame: Frame) -> Iterator[bytes]:
    yield frame.header()
    first, *others = sources
    for _ in range(frame.parts):
        total = read_words(first).astype(np.uint64)
        for source in others:
            add_residues(total, read_words(source))
        yield total.astype("<u8", copy=False).tobytes()
    for source in sources:
        require_end(source)
