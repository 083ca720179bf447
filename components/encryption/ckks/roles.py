"""Protection `he`: approximate homomorphic encryption under one key, HE-FL in the literature.

CKKS (Cheon, Kim, Kim and Song 2017) through TenSEAL. A site encrypts ``[n*w, n]`` under the key
holder's public key, 4096 values a ciphertext. A sum of ciphertexts is the sum of their words modulo
a prime; numpy adds them to the same bytes as SEAL, so adding needs neither TenSEAL nor a key. The
key holder decrypts the sum. README.md beside this file says what that protects and what it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from components.encryption.ckks.context import (
    VectorEncryptor,
    decrypting_child,
    load_public_context,
    public_part_of,
    require_public,
)
from components.encryption.ckks.words import CIPHERTEXT_BYTES, SLOTS
from components.encryption.framing import Frame, context_fingerprint
from components.encryption.native.tenseal_contexts import SUSPECT
from components.encryption.sources import added_ciphertexts, check_ciphertexts, read_words, require_end
from components.encryption.vectors import require_sealable
from components.errors import CiphertextError, UsageError
from components.execution.suspicion import suspected

NAME: Final = "he"
MAX_SITES: Final = 64
LARGEST_VALUE: Final = 4e6
"""Largest magnitude a site may seal: so many of them times the scale stay below half the modulus."""
OPENING_STEP: Final = 2.0**-14
"""Opened values are rounded to multiples of it: published decryption noise would give the key away."""
ABSOLUTE_ERROR: Final = 1e-4
"""Half a step, and eight standard deviations of the noise of 64 ciphertexts."""


class HeSealer:
    """A site under `he`.

    Args:
        public_context: The key holder's public key; a context that could decrypt is refused.

    Raises:
        UsageError: The context holds a secret key or is none of `he`.
    """

    def __init__(self, public_context: bytes) -> None:
        with suspected(SUSPECT):
            self._encryptor = VectorEncryptor(load_public_context(public_context))
        self._fingerprint = context_fingerprint(public_context)

    def seal(self, values: NDArray[np.float64]) -> Iterator[bytes]:
        """Encrypt a vector of at most 4e6 in magnitude, and prove of each ciphertext that it is one.

        The last ciphertext is filled up with zeros, so the size follows from the length alone.

        Returns:
            The header, then one ciphertext of 4096 values after the other. What is refused below is
            refused before the first of them, except for `CiphertextError`.

        Raises:
            BadDataError: A value is not finite or beyond `LARGEST_VALUE`.
            CiphertextError: TenSEAL wrote anything but ciphertexts of these parameters, or they can be
                decrypted here; that one is not yielded.
            ValueError: Not a one-dimensional, non-empty float64 vector.
        """
        require_sealable(values, protection=NAME, largest=LARGEST_VALUE)
        return self._sealed(values)

    def _sealed(self, values: NDArray[np.float64]) -> Iterator[bytes]:
        yield _frame(self._fingerprint, values.size).header()
        for start in range(0, values.size, SLOTS):
            part = values[start : start + SLOTS]
            slots = np.zeros(SLOTS)
            slots[: part.size] = part
            with suspected(SUSPECT):
                words = self._encryptor.encrypt(slots)
            yield words


class HeSummer:
    """The aggregator under `he`, and the key holder when it adds again: needs no TenSEAL.

    Args:
        public_context: The key holder's public key; one that holds the secret key is refused.

    Raises:
        UsageError: The context holds a secret key or is none of `he`.
    """

    def __init__(self, public_context: bytes) -> None:
        require_public(public_context)
        self._fingerprint = context_fingerprint(public_context)

    def check(self, source: BinaryIO, length: int) -> None:
        """Pass whole ciphertexts for this context and length, every word of them below the modulus."""
        check_ciphertexts(source, _frame(self._fingerprint, length))

    def add(self, sources: Sequence[BinaryIO], length: int) -> Iterator[bytes]:
        """Add word by word modulo the prime: exact, so the order does not matter."""
        if len(sources) > MAX_SITES:
            raise UsageError(
                f"he adds at most {MAX_SITES} sites without wrapping, got {len(sources)}: "
                "split the federation"
            )
        return added_ciphertexts(sources, _frame(self._fingerprint, length))


class HeOpener:
    """The key holder under `he`.

    Its child is forked here and sets up meanwhile: make it before there is a sum in memory.

    Args:
        secret_context: The key pair; a context without its secret key is refused.

    Raises:
        UsageError: The context holds no secret key or is none of `he`.
    """

    absolute_error = ABSOLUTE_ERROR
    """Largest distance of an opened value from the exact sum, rounding of float64 aside."""

    def __init__(self, secret_context: bytes) -> None:
        self._fingerprint = context_fingerprint(public_part_of(secret_context))
        self._child = decrypting_child(secret_context)

    def open(self, source: BinaryIO, length: int) -> NDArray[np.float64]:
        """Decrypt a sum and round it to multiples of 2^-14, which also makes sums of integers exact.

        Raises:
            CiphertextError: It fails `HeSummer.check`, or opens to what no sum of updates is, or TenSEAL
                did not survive it or the context.
        """
        frame = _frame(self._fingerprint, length)
        frame.read_header(source)
        opened = np.empty(length, np.float64)
        ciphertexts = (read_words(source) for _ in range(frame.parts))
        for number, values in enumerate(self._child.compute(ciphertexts)):
            slots = np.frombuffer(values, "<f8")
            part = opened[number * SLOTS : (number + 1) * SLOTS]
            # The refusal names no value: a key holder that explains its refusals can be asked for the key.
            possible = np.abs(slots) <= MAX_SITES * LARGEST_VALUE + ABSOLUTE_ERROR
            if not possible.all() or np.abs(slots[part.size :]).max(initial=0.0) > ABSOLUTE_ERROR:
                raise CiphertextError("this sum does not open to a sum of updates: refused")
            part[:] = np.rint(slots[: part.size] / OPENING_STEP) * OPENING_STEP
        require_end(source)
        return opened


def sealed_size(length: int) -> int:
    """Bytes of every sealed vector of so many values."""
    return _frame(context_fingerprint(b""), length).size


def _frame(fingerprint: str, length: int) -> Frame:
    return Frame(
        protection=NAME,
        fingerprint=fingerprint,
        length=length,
        parts=-(-length // SLOTS),
        part_bytes=CIPHERTEXT_BYTES,
    )
