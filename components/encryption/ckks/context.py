"""Keys of protection `he`, CKKS contexts of TenSEAL, and the two operations that need them.

At a site they run in the step's own process, whose end is that site's refusal alone. The key holder
has no other to stand in for him, so he decrypts in a `decrypting_child`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.encryption.ckks.words import (
    CIPHERTEXT_BYTES,
    RING_DEGREE,
    SCALE,
    SLOTS,
    ciphertext_words,
    serialised_ciphertext,
)
from components.encryption.native.context_form import ContextForm
from components.encryption.native.native_child import Compute, NativeChild
from components.encryption.native.tenseal_contexts import ContextKind, public_part
from components.errors import CiphertextError

__all__ = [
    "FORM",
    "VectorDecryptor",
    "VectorEncryptor",
    "decrypting_child",
    "generate_contexts",
    "load_public_context",
    "load_secret_context",
    "load_tenseal",
    "public_part",
    "public_part_of",
    "require_public",
]

COEFF_MOD_BIT_SIZES = (60, 60)
_SLOT_BYTES: Final = 8 * SLOTS


def generate_contexts() -> tuple[bytes, bytes]:
    """Draw a key pair and return the public and the secret context, serialised.

    Raises:
        UsageError: TenSEAL is not installed.
    """
    tenseal = load_tenseal()
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        RING_DEGREE,
        coeff_mod_bit_sizes=list(COEFF_MOD_BIT_SIZES),
        encryption_type=tenseal.ENCRYPTION_TYPE.ASYMMETRIC,
        n_threads=1,
    )
    context.global_scale = SCALE
    return _KIND.both_parts(context)


def load_public_context(public_context: bytes) -> Any:
    """Load a context that can encrypt and cannot decrypt.

    Raises:
        UsageError: It holds a secret key, or is no context of `he`.
    """
    return _KIND.load_public(public_context)


def load_secret_context(secret_context: bytes) -> Any:
    """Load a context that can decrypt.

    Raises:
        UsageError: It holds no secret key, or is no context of `he`.
    """
    return _KIND.load_secret(secret_context)


def require_public(public_context: bytes) -> None:
    """Pass the serialisation of a public context, by its outermost fields alone.

    Raises:
        UsageError: It holds a secret key, or is no context of `he`.
    """
    _KIND.require_public(public_context)


def load_tenseal() -> ModuleType:
    """Import TenSEAL, which takes a moment and is not in every image.

    Raises:
        UsageError: It is not installed.
    """
    return _KIND.load_tenseal()


def public_part_of(secret_context: bytes) -> bytes:
    """Take the public context out of a secret one, by its outermost fields and its form alone.

    Raises:
        UsageError: It holds no secret key, or is no context of `he`.
    """
    return _KIND.public_part_of(secret_context)


def decrypting_child(secret_context: bytes) -> NativeChild:
    """Make a child that decrypts the words of a ciphertext to 4096 values, float64.

    Raises:
        UsageError: TenSEAL is not installed.
    """
    load_tenseal()

    def start() -> Compute:
        decryptor = VectorDecryptor(load_secret_context(secret_context))
        return lambda words: decryptor.decrypt(np.frombuffer(words, "<u8")).astype("<f8").tobytes()

    return NativeChild(start, part_bytes=CIPHERTEXT_BYTES, result_bytes=_SLOT_BYTES, at_once=4)


class VectorEncryptor:
    """A public key, ready to encrypt vector after vector.

    Args:
        context: A context from `load_public_context`, which has shown that it cannot decrypt.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._new_vector = load_tenseal().ckks_vector

    def encrypt(self, values: NDArray[np.float64]) -> bytes:
        """Encrypt 4096 values, and prove of the ciphertext that it is one.

        Returns:
            The words of the ciphertext, 131,072 bytes.

        Raises:
            CiphertextError: TenSEAL wrote anything but a ciphertext of these parameters, or one that can
                be decrypted here.
        """
        vector = self._new_vector(self._context, values.tolist(), SCALE)
        _require_unreadable(vector)
        return ciphertext_words(vector.serialize()).astype("<u8", copy=False).tobytes()


class VectorDecryptor:
    """A secret key, ready to decrypt vector after vector.

    Args:
        context: A context from `load_secret_context`.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._vector_from = load_tenseal().ckks_vector_from

    def decrypt(self, words: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Decrypt the words of one ciphertext or of a sum, shape (16384,), to 4096 values.

        Raises:
            CiphertextError: They are not the words of a ciphertext; SEAL has not seen them.
        """
        vector = self._vector_from(self._context, serialised_ciphertext(words))
        return np.array(vector.decrypt(), np.float64)


def _require_unreadable(vector: Any) -> None:
    """Pass a ciphertext that the context it was made with cannot decrypt.

    Raises:
        CiphertextError: It could be decrypted, so the secret key is where only the public one may be.
    """
    try:
        vector.decrypt()
    except ValueError:
        return
    raise CiphertextError(
        "the update could be decrypted where it was sealed: the site holds a secret key, nothing was sealed"
    )


def _require(context: Any) -> None:
    """Encrypts once: the bytes show the parameters."""
    ciphertext_words(load_tenseal().ckks_vector(context, [0.0] * SLOTS, SCALE).serialize())


FORM: Final = ContextForm(
    scheme=2,
    plain_modulus=0,
    parameters=bytes.fromhex(
        "5ea1100403020000430000000000000028b52ffd2059550100d00200200002005ea110040300000018000180feff"
        "ffffff0fc0ff06008000e0c33b27071881c1172002"
    ),
    scale=SCALE,
)
_KIND: Final = ContextKind(protection="he", form=FORM, require=_require)
