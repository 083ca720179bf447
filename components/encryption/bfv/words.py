"""A BFV ciphertext of protection `sealed`, word by word: 8192 slots modulo the plaintext prime.

What is sent of it, and why nothing else, stands in `seal_words`. BFV ciphertexts are written in
coefficient form; their parameters' hash covers the plaintext modulus.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.encryption.bfv.packing import PLAIN_MODULUS
from components.encryption.native.seal_words import (
    CIPHERTEXT_BYTES,
    MODULUS,
    RING_DEGREE,
    WORDS,
    add_residues,
    parameters_hash,
    require_residues,
    seal_envelope,
)

__all__ = [
    "CIPHERTEXT_BYTES",
    "MODULUS",
    "PARAMETERS_HASH",
    "RING_DEGREE",
    "WORDS",
    "add_residues",
    "ciphertext_content",
    "require_residues",
    "serialised_ciphertext",
]

_BFV: Final = 1
PARAMETERS_HASH: Final = parameters_hash(scheme=_BFV, plain_modulus=PLAIN_MODULUS)
_ENVELOPE: Final = seal_envelope(scheme=_BFV, plain_modulus=PLAIN_MODULUS, ntt_form=False, scale=1.0)


def ciphertext_content(serialised: bytes) -> bytes:
    """Take the words out of one freshly encrypted, serialised ciphertext.

    Returns:
        16,384 words of eight bytes, little-endian, each below `MODULUS`: c0, then c1.

    Raises:
        CiphertextError: It is not the serialisation of a ciphertext of these parameters.
    """
    return _ENVELOPE.opened(serialised)


def serialised_ciphertext(words: NDArray[np.uint64]) -> bytes:
    """Write what SEAL writes of a ciphertext with these words.

    Raises:
        CiphertextError: They are not 16,384 words below `MODULUS`.
    """
    return _ENVELOPE.around(words)
