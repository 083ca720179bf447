"""Keys of protection `he`: CKKS contexts of TenSEAL, public and secret."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from components.encryption.ckks_words import RING_DEGREE, SCALE, SLOTS, ciphertext_words
from components.encryption.tenseal_contexts import ContextKind, public_part

__all__ = [
    "generate_contexts",
    "load_public_context",
    "load_secret_context",
    "load_tenseal",
    "public_part",
    "require_public",
]

COEFF_MOD_BIT_SIZES = (60, 60)


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


def _require(context: Any) -> None:
    """Encrypts once: the bytes show the parameters."""
    ciphertext_words(load_tenseal().ckks_vector(context, [0.0] * SLOTS, SCALE).serialize())


_KIND: Final = ContextKind(protection="he", require=_require)
