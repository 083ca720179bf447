"""Updates of 32-bit words, masked in Z_{2^32}: what protections `masked` and `smc` seal, add and open.

A word plus a uniform word is a uniform word whatever it was, and processors add modulo 2^32 by
themselves: no prime, no padding, no ciphertext around it. A stream of masks is AES-256 in counter mode
under a key of its own, from zero on, read as little-endian words; it is uniform as it stands, so nothing
is rejected. Sealed vectors are read and written from front to back and are four bytes a value.

What hides an update here are its masks alone. Who may open what follows from who holds their keys:
see `holder_pads.py` for `masked` and the room `mask_recovery` for `smc`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from components.encryption.framing import Frame, context_fingerprint
from components.encryption.masking.masks import Masks
from components.encryption.sources import fill, read_part, require_end
from components.encryption.vectors import require_integers

__all__ = ["LARGEST_SUM", "MaskStreams", "RingOpener", "RingSealer", "RingSummer"]

LARGEST_SUM: Final = 2**31 - 1
"""Largest magnitude that a value of a sum may have."""
BLOCK_WORDS: Final = 1 << 16
"""Words that are handled at once: they stay in the processor's cache."""
_WORD_BYTES: Final = 4
_ZEROS: Final = memoryview(bytes(BLOCK_WORDS * _WORD_BYTES))
_AES_BLOCK_WORDS: Final = 4


class MaskStreams:
    """The streams of one vector, taken from front to back; each is used once."""

    def __init__(self, masks: Masks) -> None:
        self._added = [_stream(key) for key in masks.added]
        self._subtracted = [_stream(key) for key in masks.subtracted]
        # OpenSSL asks for room for one more AES block than it writes.
        self._scratch = np.empty(BLOCK_WORDS + _AES_BLOCK_WORDS, "<u4")

    def add_to(self, words: NDArray[np.uint32]) -> None:
        """Mask the next words of the vector, in place; at most `BLOCK_WORDS` of them."""
        self._combine(words, self._added, self._subtracted)

    def take_off(self, words: NDArray[np.uint32]) -> None:
        """Take the masks off the next words of the vector, in place; at most `BLOCK_WORDS` of them."""
        self._combine(words, self._subtracted, self._added)

    def _combine(
        self, words: NDArray[np.uint32], added: Sequence[CipherContext], taken: Sequence[CipherContext]
    ) -> None:
        room, asked = self._scratch.data.cast("B"), _ZEROS[: words.size * _WORD_BYTES]
        stream = self._scratch[: words.size]
        for each in added:
            each.update_into(asked, room)
            words += stream
        for each in taken:
            each.update_into(asked, room)
            words -= stream


class RingSealer:
    """A site, for one vector.

    Args:
        name: The protection, `masked` or `smc`.
        public_context: What the federation's header names; empty under `smc`.
        masks: All that hides this vector, of this round and purpose alone.
        sites: Sites of the charter: as many vectors as may ever be summed.

    Raises:
        ValueError: There is no mask.
    """

    def __init__(self, name: str, public_context: bytes, masks: Masks, *, sites: int) -> None:
        if not masks.added:
            raise ValueError("a site adds its self-mask at the least: without one everybody reads it")
        self._name, self._fingerprint = name, context_fingerprint(public_context)
        self._masks, self._sites = masks, sites
        self._used = False

    def seal(self, values: NDArray[np.int32]) -> Iterator[bytes]:
        """Seal a vector of shape (length,), once; the argument is not changed and not copied as a whole.

        Returns:
            The header, then the masked words in parts. What is refused is refused before the first of them.

        Raises:
            BadDataError: A value is larger than what this many sites can add.
            RuntimeError: This sealer has sealed before: under the same masks the two vectors'
                difference would be open.
            ValueError: Not a one-dimensional, non-empty vector of int32.
        """
        require_integers(
            values, dtypes=(np.int32,), bound=LARGEST_SUM // self._sites, sites=self._sites, name=self._name
        )
        if self._used:
            raise RuntimeError("a sealer seals one vector: masks that are used twice hide nothing")
        self._used = True
        return self._sealed(values)

    def _sealed(self, values: NDArray[np.int32]) -> Iterator[bytes]:
        yield _frame(self._name, self._fingerprint, values.size).header()
        streams, scratch = MaskStreams(self._masks), np.empty(min(BLOCK_WORDS, values.size), np.uint32)
        for start, stop in _blocks(values.size):
            words = scratch[: stop - start]
            words[:] = values[start:stop].view(np.uint32)
            streams.add_to(words)
            yield words.astype("<u4", copy=False).tobytes()


class RingSummer:
    """The aggregator, and the key holder when it adds again: holds nothing secret.

    Args:
        name: The protection, `masked` or `smc`.
        public_context: What the federation's header names.
    """

    def __init__(self, name: str, public_context: bytes) -> None:
        self._name, self._fingerprint = name, context_fingerprint(public_context)

    def check(self, source: BinaryIO, length: int) -> None:
        """Read a sealed vector to its end: the one header, so many words, and nothing more.

        Raises:
            CiphertextError: It is anything else.
        """
        self._frame(length).read_header(source)
        for start, stop in _blocks(length):
            read_part(source, (stop - start) * _WORD_BYTES)
        require_end(source)

    def add(self, sources: Sequence[BinaryIO], length: int) -> Iterator[bytes]:
        """Add word by word modulo 2^32: exact, so the order does not matter.

        Returns:
            The header, then the words in parts, itself a sealed vector; one only once the iterator has ended.

        Raises:
            CiphertextError: A source does not pass `check`; if its header does not, at once.
            ValueError: No sources.
        """
        if not sources:
            raise ValueError("a sum needs at least one sealed update")
        frame = self._frame(length)
        for source in sources:
            frame.read_header(source)
        return _added(sources, frame)

    def _frame(self, length: int) -> Frame:
        return _frame(self._name, self._fingerprint, length)


class RingOpener:
    """The key holder, or under `smc` whoever computes the sum.

    Args:
        name: The protection, `masked` or `smc`.
        public_context: What the federation's header names.
        masks: What remains of all sites' masks in the sum: it is taken off.
    """

    def __init__(self, name: str, public_context: bytes, masks: Masks) -> None:
        self._name, self._fingerprint = name, context_fingerprint(public_context)
        self._masks = masks

    def open(self, source: BinaryIO, length: int) -> NDArray[np.int32]:
        """Open a sum, added here from updates whose signatures were verified, into shape (length,).

        Any words open to some vector: that it is a sum of updates, the fixed point's count tells.

        Raises:
            CiphertextError: It fails `RingSummer.check`.
        """
        _frame(self._name, self._fingerprint, length).read_header(source)
        opened = np.empty(length, "<u4")
        streams = MaskStreams(self._masks)
        for start, stop in _blocks(length):
            words = opened[start:stop]
            fill(source, words.data.cast("B"))
            streams.take_off(words)
        require_end(source)
        return opened.view("<i4").astype(np.int32, copy=False)


def sealed_size(name: str, length: int) -> int:
    """Bytes of every sealed vector of so many values."""
    return _frame(name, context_fingerprint(b""), length).size


def _stream(key: bytes) -> CipherContext:
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()


def _frame(name: str, fingerprint: str, length: int) -> Frame:
    return Frame(
        protection=name, fingerprint=fingerprint, length=length, parts=length, part_bytes=_WORD_BYTES
    )


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + BLOCK_WORDS, length)) for start in range(0, length, BLOCK_WORDS))


def _read_words(source: BinaryIO, count: int) -> NDArray[np.uint32]:
    return np.frombuffer(read_part(source, count * _WORD_BYTES), "<u4")


def _added(sources: Sequence[BinaryIO], frame: Frame) -> Iterator[bytes]:
    yield frame.header()
    scratch = np.empty(min(BLOCK_WORDS, frame.length), np.uint32)
    for start, stop in _blocks(frame.length):
        total = scratch[: stop - start]
        total[:] = 0
        for source in sources:
            total += _read_words(source, stop - start)
        yield total.astype("<u4", copy=False).tobytes()
    for source in sources:
        require_end(source)
