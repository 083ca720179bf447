"""A CKKS ciphertext of protection `he`, word by word: 4096 values at scale 2^31, in NTT form.

What is sent of it, and why nothing else, stands in `seal_words`.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.encryption.native.seal_words import (
    CIPHERTEXT_BYTES,
    MODULUS,
    RING_DEGREE,
    WORDS,
    require_residues,
    seal_envelope,
    tenseal_envelope,
)

__all__ = [
    "CIPHERTEXT_BYTES",
    "MODULUS",
    "RING_DEGREE",
    "SCALE",
    "SLOTS",
    "WORDS",
    "ciphertext_words",
    "require_residues",
    "serialised_ciphertext",
]

SLOTS: Final = RING_DEGREE // 2
SCALE: Final = 2.0**31

_ENVELOPE: Final = tenseal_envelope(
    seal_envelope(scheme=2, plain_modulus=0, ntt_form=True, scale=SCALE),
    slots=SLOTS,
    after=b"\x19" + struct.pack("<d", SCALE),
)


def ciphertext_words(serialised: bytes) -> NDArray[np.uint64]:
    """Take the words out of one freshly encrypted, serialised `CKKSVector` of 4096 values.

    Returns:
        Shape (16384,), each below `MODULUS`: c0, then c1.

    Raises:
        CiphertextError: It is not the serialisation of a ciphertext of these parameters.
    """
    return np.frombuffer(_ENVELOPE.opened(serialised), "<u8").astype(np.uint64)


def serialised_ciphertext(words: NDArray[np.uint64]) -> bytes:
    """Write the serialisation of a `CKKSVector` of 4096 values around the words of its ciphertext.

    Raises:
        CiphertextError: They are not 16,384 words below `MODULUS`.
    """
    return _ENVELOPE.around(words)
