"""Masks: streams uniform modulo the plaintext prime, added to the slots of a block and taken off again.

A slot plus a uniform number modulo p is a uniform number modulo p whatever the slot holds, so who
decrypts one site's ciphertext without its masks learns nothing. Two sites that hold the same key
add and subtract the same stream: it cancels in their sum.

A stream is AES-256 in counter mode under the stream's own key. The counter starts at the block's
index in its upper 96 bits, and the lower 32 count within the block: 64 GiB before two blocks meet.
Of every eight bytes, little-endian, the lower 46 bits are a candidate, and the first 8192 candidates
below p are the block. Reducing a larger number modulo p instead would be biased.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from components.encryption.bfv.packing import BLOCK_SLOTS, PLAIN_MODULUS

__all__ = ["BLOCK_SLOTS", "KEY_BYTES", "PLAIN_MODULUS", "Masks", "accepted", "uniform_block"]

KEY_BYTES: Final = 32

_CANDIDATE = np.uint64((1 << PLAIN_MODULUS.bit_length()) - 1)
_ZEROS = bytes(8 * BLOCK_SLOTS)


def uniform_block(key: bytes, block: int) -> NDArray[np.uint64]:
    """Generate one block of a stream.

    Args:
        key: 32 bytes.
        block: Index of the block, from 0 and below 2^96.

    Returns:
        Shape (8192,), independent and uniform in [0, p).

    Raises:
        ValueError: A key or an index of another size.
    """
    if len(key) != KEY_BYTES or not 0 <= block < 1 << 96:
        raise ValueError(f"a stream has a key of {KEY_BYTES} bytes and blocks from 0 to 2^96 - 1")
    counter = block.to_bytes(12, "big") + bytes(4)
    encryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()

    def candidates(count: int) -> NDArray[np.uint64]:
        # OpenSSL asks for room for one more AES block than it writes.
        words = np.empty(count + 2, "<u8")
        encryptor.update_into(memoryview(_ZEROS)[: 8 * count], words.data.cast("B"))
        words &= _CANDIDATE
        return words[:count]

    return accepted(candidates(BLOCK_SLOTS), candidates)


def accepted(candidates: NDArray[np.uint64], more: Callable[[int], NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Return the first candidates of a stream that are below p, as many as `candidates` has.

    Args:
        candidates: How a stream of candidates begins.
        more: Returns as many of the stream's next candidates as it is asked for.
    """
    wanted = candidates.size
    while candidates.max() >= PLAIN_MODULUS:
        below = candidates[candidates < PLAIN_MODULUS]
        candidates = np.concatenate([below, more(wanted - below.size)])
    return candidates


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Streams that are added and subtracted modulo p.

    Attributes:
        added: Keys of the streams that are added, 32 bytes each.
        subtracted: Keys of those that are subtracted.
    """

    added: tuple[bytes, ...] = field(repr=False)
    subtracted: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        keys = (*self.added, *self.subtracted)
        if any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"the key of a stream has {KEY_BYTES} bytes: one of {len(keys)} has not")
        if len(set(keys)) != len(keys):
            raise ValueError(f"one of {len(keys)} streams occurs twice: masks must be independent")

    def block(self, block: int) -> NDArray[np.uint64]:
        """Return what this adds to the slots of a block, shape (8192,), below p."""
        return self.mask(np.zeros(BLOCK_SLOTS, np.uint64), block)

    def mask(self, slots: NDArray[np.uint64], block: int) -> NDArray[np.uint64]:
        """Return the slots of a block, masked; shape (8192,), below p, as the argument."""
        return _combined(slots, self.added, self.subtracted, block)

    def unmask(self, slots: NDArray[np.uint64], block: int) -> NDArray[np.uint64]:
        """Return the slots of a block without the masks; shape (8192,), below p, as the argument."""
        return _combined(slots, self.subtracted, self.added, block)


def _combined(
    slots: NDArray[np.uint64], added: tuple[bytes, ...], subtracted: tuple[bytes, ...], block: int
) -> NDArray[np.uint64]:
    # The total stays above zero and, up to 2^18 streams, below 2^64.
    total = slots + np.uint64(len(subtracted) * PLAIN_MODULUS)
    for key in added:
        total += uniform_block(key, block)
    for key in subtracted:
        total -= uniform_block(key, block)
    total %= np.uint64(PLAIN_MODULUS)
    return total
