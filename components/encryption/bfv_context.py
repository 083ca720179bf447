"""Keys of protection `sealed`, BFV contexts of TenSEAL, and the two operations that need them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.encryption.bfv_words import RING_DEGREE, ciphertext_content, serialised_ciphertext
from components.encryption.packing import BLOCK_SLOTS, PLAIN_MODULUS
from components.encryption.tenseal_contexts import ContextKind, public_part

__all__ = [
    "decrypted_slots",
    "encrypted_blocks",
    "generate_contexts",
    "load_public_context",
    "load_secret_context",
    "public_part",
    "require_public",
]

COEFF_MOD_BIT_SIZES = (60, 60)


def generate_contexts() -> tuple[bytes, bytes]:
    """Draw a key pair and return the public and the secret context, serialised.

    Raises:
        UsageError: TenSEAL is not installed.
    """
    tenseal = _KIND.load_tenseal()
    context = tenseal.context(
        tenseal.SCHEME_TYPE.BFV,
        RING_DEGREE,
        plain_modulus=PLAIN_MODULUS,
        coeff_mod_bit_sizes=list(COEFF_MOD_BIT_SIZES),
        encryption_type=tenseal.ENCRYPTION_TYPE.ASYMMETRIC,
        n_threads=1,
    )
    return _KIND.both_parts(context)


def load_public_context(public_context: bytes) -> Any:
    """Load a context that can encrypt and cannot decrypt.

    Raises:
        UsageError: It holds a secret key, or is no context of `sealed`.
    """
    return _KIND.load_public(public_context)


def load_secret_context(secret_context: bytes) -> Any:
    """Load a context that can decrypt.

    Raises:
        UsageError: It holds no secret key, or is no context of `sealed`.
    """
    return _KIND.load_secret(secret_context)


def require_public(public_context: bytes) -> None:
    """Pass the serialisation of a public context, by its outermost fields alone.

    Raises:
        UsageError: It holds a secret key, or is no context of `sealed`.
    """
    _KIND.require_public(public_context)


def encrypted_blocks(context: Any, blocks: Sequence[NDArray[np.uint64]]) -> Iterator[bytes]:
    """Encrypt blocks under a context's public key, each with fresh randomness.

    SEAL seeds its generator from the operating system for every ciphertext.

    Args:
        context: A context from `load_public_context`, which has shown that it cannot decrypt.
        blocks: Slots of shape (8192,) each, modulo the plaintext prime.

    Returns:
        The words of each ciphertext, 131,072 bytes.

    Raises:
        CiphertextError: TenSEAL wrote anything but a ciphertext of these parameters, or one that
            anybody can read.
    """
    vectors = [_vector(context, slots) for slots in blocks]
    for vector in vectors:
        yield ciphertext_content(vector.serialize())


def decrypted_slots(context: Any, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Decrypt one block.

    Args:
        context: A secret context.
        words: Shape (16384,), of one ciphertext or of a sum.

    Returns:
        Shape (8192,), modulo the plaintext prime.

    Raises:
        CiphertextError: They are not the words of a ciphertext; SEAL has not seen them.
    """
    vector = _KIND.load_tenseal()._ts_cpp.BFVVector(context.data, serialised_ciphertext(words))
    # TenSEAL reads slots as centred integers.
    centred = np.fromiter(vector.decrypt(), np.int64, BLOCK_SLOTS)
    centred += (centred >> 63) & PLAIN_MODULUS
    return centred.view(np.uint64)


def _vector(context: Any, slots: NDArray[np.uint64]) -> Any:
    # The class behind `bfv_vector`, which copies the slots twice more before it gets here.
    return _KIND.load_tenseal()._ts_cpp.BFVVector(context.data, slots.tolist())


def _try_out(context: Any) -> Any:
    vector = _vector(context, np.zeros(BLOCK_SLOTS, np.uint64))
    ciphertext_content(vector.serialize())
    return vector


_KIND: Final = ContextKind(protection="sealed", try_out=_try_out)
