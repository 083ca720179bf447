"""Protection `sealed`: exact integer sums, masked modulo the plaintext prime, then encrypted by BFV.

BFV (Brakerski 2012; Fan and Vercauteren 2012) through TenSEAL under the key holder's public key. A
site packs its integers, adds its masks and encrypts, block by block. Anybody adds ciphertexts: the
sum of their words modulo a prime, the same bytes as SEAL's, without TenSEAL and without a key. The
key holder decrypts a sum that it has added itself and takes off the masks that the sites of one
agreed set released; a decryption without them is uniform noise. Everything is streamed: a sealed
vector is a header and then one ciphertext of 131,072 bytes after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from components.encryption.bfv.context import (
    BLOCKS_AT_ONCE,
    BlockEncryptor,
    decrypting_child,
    generate_contexts,
    load_public_context,
    public_part_of,
    require_public,
)
from components.encryption.bfv.packing import VALUE_SLOTS, Packing
from components.encryption.bfv.plaintext import require_slots
from components.encryption.bfv.words import CIPHERTEXT_BYTES
from components.encryption.framing import Frame, context_fingerprint
from components.encryption.masking.masks import Masks
from components.encryption.native.tenseal_contexts import SUSPECT
from components.encryption.sources import added_ciphertexts, check_ciphertexts, read_words, require_end
from components.errors import CiphertextError, UsageError
from components.execution.suspicion import suspected

__all__ = ["MAX_SITES", "SealedOpener", "SealedSealer", "SealedSummer", "generate_contexts"]

MAX_SITES: Final = 1024
"""The noise of so many ciphertexts has deviation 21.3 * 32 = 683; up to 8192, twelve times that, is exact."""


class SealedSealer:
    """A site under `sealed`, for one vector.

    Args:
        public_context: The key holder's public key; a context that could decrypt is refused.
        packing: How its values are packed.
        masks: Its self-mask and its share of the pairwise masks, of this round and purpose alone.

    Raises:
        UsageError: The context holds a secret key or is none of `sealed`.
        ValueError: There is no mask.
    """

    def __init__(self, public_context: bytes, packing: Packing, masks: Masks) -> None:
        if not masks.added:
            raise ValueError("a site adds its self-mask at the least: without one the key holder reads it")
        with suspected(SUSPECT):
            self._encryptor = BlockEncryptor(load_public_context(public_context))
        self._fingerprint = context_fingerprint(public_context)
        self._packing = packing
        self._masks = masks
        self._used = False

    def seal(self, values: NDArray[np.int32] | NDArray[np.int64]) -> Iterator[bytes]:
        """Seal a vector of shape (length,), once; the argument is not changed and not copied as a whole.

        Returns:
            The header, then one ciphertext after the other. What is refused below is refused before the
            first of them, except for `CiphertextError`: what was yielded before it is sealed all the same.

        Raises:
            BadDataError: A value is beyond `Packing.bound`.
            CiphertextError: TenSEAL wrote anything but ciphertexts of these parameters.
            RuntimeError: This sealer has sealed before: under the same masks the two vectors'
                difference would be open.
            ValueError: Not a one-dimensional, non-empty vector of int32 or int64.
        """
        self._packing.require_packable(values)
        if self._used:
            raise RuntimeError("a sealer seals one vector: masks that are used twice hide nothing")
        self._used = True
        return self._sealed(values)

    def _sealed(self, values: NDArray[np.int32] | NDArray[np.int64]) -> Iterator[bytes]:
        frame = _frame(self._fingerprint, self._packing.values_per_slot, values.size)
        yield frame.header()
        for first in range(0, frame.parts, BLOCKS_AT_ONCE):
            blocks = range(first, min(first + BLOCKS_AT_ONCE, frame.parts))
            yield from map(self._encrypted, [self._masked(values, block) for block in blocks])

    def _encrypted(self, slots: NDArray[np.uint64]) -> bytes:
        with suspected(SUSPECT):
            return self._encryptor.encrypt(slots)

    def _masked(self, values: NDArray[np.int32] | NDArray[np.int64], block: int) -> NDArray[np.uint64]:
        step = self._packing.values_per_block
        return self._masks.mask(self._packing.pack(values[block * step : (block + 1) * step]), block)


class SealedSummer:
    """The aggregator under `sealed`, and the key holder when it adds again: needs no TenSEAL and no key.

    Args:
        public_context: The key holder's public key; one that holds the secret key is refused.
        values_per_slot: One or two, as the sealers' packing.

    Raises:
        UsageError: The context holds a secret key or is none of `sealed`.
    """

    def __init__(self, public_context: bytes, values_per_slot: int) -> None:
        require_public(public_context)
        self._fingerprint = context_fingerprint(public_context)
        self._values_per_slot = values_per_slot

    def check(self, source: BinaryIO, length: int) -> None:
        """Read a sealed vector to its end: whole ciphertexts for this context and length, and nothing more.

        Raises:
            CiphertextError: It is anything else; no parser of a library has touched it.
        """
        check_ciphertexts(source, _frame(self._fingerprint, self._values_per_slot, length))

    def add(self, sources: Sequence[BinaryIO], length: int) -> Iterator[bytes]:
        """Add word by word modulo the prime: exact, so the order does not matter.

        Every word of every source is checked on its way. The sum may be used only once the iterator is
        exhausted: what is wrong with the end of a source shows at the end.

        Returns:
            The header, then one ciphertext after the other, itself a sealed vector.

        Raises:
            CiphertextError: A source does not pass `check`; if its header does not, at once.
            UsageError: More sources than can be added without wrapping.
            ValueError: No sources.
        """
        if len(sources) > MAX_SITES:
            raise UsageError(
                f"sealed adds at most {MAX_SITES} sites without wrapping, got {len(sources)}: "
                "split the federation"
            )
        return added_ciphertexts(sources, _frame(self._fingerprint, self._values_per_slot, length))


class SealedOpener:
    """The key holder under `sealed`.

    Its child is forked here and sets up meanwhile: make it before there is a sum in memory.

    Args:
        secret_context: The key pair; a context without its secret key is refused.
        packing: How the sites packed their values.
        masks: What remains of all sites' masks in the sum: it is taken off.

    Raises:
        UsageError: The context holds no secret key or is none of `sealed`.
    """

    def __init__(self, secret_context: bytes, packing: Packing, masks: Masks) -> None:
        self._fingerprint = context_fingerprint(public_part_of(secret_context))
        self._child = decrypting_child(secret_context)
        self._packing = packing
        self._masks = masks

    def open(self, source: BinaryIO, length: int) -> NDArray[np.int64]:
        """Open a sum, added here from ciphertexts whose signatures were verified, into shape (length,).

        Raises:
            CiphertextError: It fails `SealedSummer.check`, or opens to what no sum of updates is, or
                TenSEAL did not survive it or the context.
        """
        frame = _frame(self._fingerprint, self._packing.values_per_slot, length)
        frame.read_header(source)
        opened = np.empty(length, np.int64)
        step = self._packing.values_per_block
        ciphertexts = (read_words(source) for _ in range(frame.parts))
        for block, slots in enumerate(map(require_slots, self._child.compute(ciphertexts))):
            values = self._packing.unpack(self._masks.unmask(slots, block))
            part = opened[block * step : (block + 1) * step]
            part[:] = values[: part.size]
            # The refusal names no value: a key holder that explains its refusals can be asked for the key.
            if values[part.size :].any():
                raise CiphertextError("this sum does not open to a sum of updates: refused")
        require_end(source)
        return opened


def sealed_size(length: int, values_per_slot: int) -> int:
    """Bytes of every sealed vector of so many values."""
    return _frame(context_fingerprint(b""), values_per_slot, length).size


def _frame(fingerprint: str, values_per_slot: int, length: int) -> Frame:
    return Frame(
        protection=f"sealed/{values_per_slot}",
        fingerprint=fingerprint,
        length=length,
        parts=-(-length // (VALUE_SLOTS * values_per_slot)),
        part_bytes=CIPHERTEXT_BYTES,
    )
