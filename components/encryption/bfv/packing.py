"""Integers of a vector packed into the slots of BFV blocks, one or two a slot.

A block is the plaintext of one ciphertext: 8192 slots modulo the prime p, of which 8184 carry values
and 8 are zero. Slots are added modulo p, so values add as long as no sum leaves its field:

    two a slot   P = x0 + 2^23 x1 mod p, |sum of x| <= 2^22 - 1: model updates
    one a slot   P = x mod p, |sum of x| <= (p - 1) / 2, nearly 2^45: sums that must not lose precision

x0 of a block are its first 8184 values, x1 the 8184 that follow. A last block that is not full is
filled up with zeros, so the size of what is sealed follows from the length alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from components.encryption.vectors import require_integers
from components.errors import CiphertextError

PLAIN_MODULUS: Final = 70368743669761
"""p, the largest prime below 2^46 with p = 1 mod 2 * 8192, for which SEAL adds natively modulo p."""
BLOCK_SLOTS: Final = 8192
VALUE_SLOTS: Final = 8184
"""Slots of a block that carry values; the others are zero: an accident check, no defence against forgery."""
FIELD_BITS: Final = 23

_FIELD = 1 << FIELD_BITS
_HALF_FIELD = 1 << (FIELD_BITS - 1)
_HALF_MODULUS = (PLAIN_MODULUS - 1) // 2


def largest_sum(values_per_slot: int) -> int:
    """Largest magnitude that a value of a sum may have with two values in a slot, or one."""
    return _HALF_FIELD - 1 if values_per_slot == 2 else _HALF_MODULUS


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How vectors of a federation are packed.

    Attributes:
        values_per_slot: One or two.
        sites: Sites of the charter: as many vectors as may ever be summed.
    """

    values_per_slot: Literal[1, 2]
    sites: int

    def __post_init__(self) -> None:
        if self.values_per_slot not in (1, 2):
            raise ValueError(f"a slot carries 1 or 2 values, got {self.values_per_slot}")
        most = largest_sum(self.values_per_slot)
        if not 1 <= self.sites <= most:
            raise ValueError(f"a sum has between 1 and {most} sites, got {self.sites}")

    @property
    def bound(self) -> int:
        """Largest magnitude a site may seal, so that no sum of all sites leaves its field."""
        return largest_sum(self.values_per_slot) // self.sites

    @property
    def values_per_block(self) -> int:
        """Values that one ciphertext carries."""
        return VALUE_SLOTS * self.values_per_slot

    def blocks(self, length: int) -> int:
        """Blocks of a vector of `length` values."""
        return -(-length // self.values_per_block)

    def require_packable(self, values: NDArray[np.int32] | NDArray[np.int64]) -> None:
        """Pass a non-empty integer vector with no value beyond `bound` in magnitude.

        Raises:
            BadDataError: A value is too large.
            ValueError: Not a one-dimensional, non-empty vector of int32 or int64.
        """
        require_integers(
            values, dtypes=(np.int32, np.int64), bound=self.bound, sites=self.sites, name="sealed"
        )

    def pack(self, values: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.uint64]:
        """Pack the values of one block, each at most `bound` in magnitude; see `require_packable`.

        Args:
            values: Shape (at most `values_per_block`,).

        Returns:
            Shape (8192,), below p; the last 8 slots are zero.

        Raises:
            ValueError: More values than a block carries.
        """
        if values.size > self.values_per_block:
            raise ValueError(f"a block carries {self.values_per_block} values, got {values.size}")
        slots = np.zeros(BLOCK_SLOTS, np.int64)
        high = values[VALUE_SLOTS:]
        np.left_shift(high, FIELD_BITS, out=slots[: high.size], dtype=np.int64)
        low = values[:VALUE_SLOTS]
        slots[: low.size] += low
        slots += (slots >> 63) & PLAIN_MODULUS
        return slots.view(np.uint64)

    def unpack(self, slots: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Read the sums in the slots of one block.

        Args:
            slots: Shape (8192,), below p.

        Returns:
            Shape (`values_per_block`,), centred: a block that was not full ends in zeros.

        Raises:
            CiphertextError: A slot that carries no value is not zero. The refusal says no more than that.
        """
        if slots[VALUE_SLOTS:].any():
            raise CiphertextError("this sum does not open to a sum of updates: refused")
        centred = slots[:VALUE_SLOTS].astype(np.int64)
        centred -= (centred > _HALF_MODULUS) * np.int64(PLAIN_MODULUS)
        if self.values_per_slot == 1:
            return centred
        values = np.empty(self.values_per_block, np.int64)
        low, high = values[:VALUE_SLOTS], values[VALUE_SLOTS:]
        np.add(centred, _HALF_FIELD, out=low)
        np.right_shift(low, FIELD_BITS, out=high)
        low &= _FIELD - 1
        low -= _HALF_FIELD
        return values
