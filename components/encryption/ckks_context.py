"""Keys of protection `he`: TenSEAL contexts, public and secret, told apart before they are loaded.

A context is a protocol buffer with the fields encryption_parameters = 1, public_context = 2,
private_context = 3 and encryption_type = 4, which public-key encryption leaves out (it is zero).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from components.encryption.ckks_words import RING_DEGREE, SCALE, SLOTS, ciphertext_words
from components.errors import CiphertextError, UsageError

COEFF_MOD_BIT_SIZES = (60, 60)

_PUBLIC_FIELDS = [1, 2]
_SECRET_FIELDS = [1, 2, 3]


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
    public, secret = public_part(context), _serialised(context, with_secret_key=True)
    require_public(public)
    _require_secret(secret)
    return public, secret


def load_public_context(public_context: bytes) -> Any:
    """Load a context that can encrypt and cannot decrypt.

    Raises:
        UsageError: It holds a secret key, or is no context of `he`.
    """
    require_public(public_context)
    context = _loaded(public_context)
    if context.is_private() or context.has_secret_key() or not context.has_public_key():
        raise UsageError(
            "this context is not a public one: give a site and the aggregator keys made by `keys init`"
        )
    return context


def load_secret_context(secret_context: bytes) -> Any:
    """Load a context that can decrypt.

    Raises:
        UsageError: It holds no secret key, or is no context of `he`.
    """
    _require_secret(secret_context)
    context = _loaded(secret_context)
    if not context.is_private() or not context.has_secret_key():
        raise UsageError("this context holds no secret key: only the key holder's own can open")
    return context


def public_part(context: Any) -> bytes:
    """Serialise a loaded context without its secret key; the same bytes from either half of a key pair."""
    return _serialised(context, with_secret_key=False)


def require_public(public_context: bytes) -> None:
    """Pass the serialisation of a public context, by its outermost fields alone.

    Raises:
        UsageError: It holds a secret key, or is no context of `he`.
    """
    fields = _fields(public_context)
    if fields == _SECRET_FIELDS:
        raise UsageError(
            "this context holds a secret key: a site and the aggregator may be given the public one only"
        )
    if fields != _PUBLIC_FIELDS:
        raise UsageError(
            f"{len(public_context)} bytes are no public context of he: make one with `crosscloud keys init`"
        )


def _require_secret(secret_context: bytes) -> None:
    fields = _fields(secret_context)
    if fields == _PUBLIC_FIELDS:
        raise UsageError("this context holds no secret key: only the key holder's own can open")
    if fields != _SECRET_FIELDS:
        raise UsageError(
            f"{len(secret_context)} bytes are no secret context of he: make one with `crosscloud keys init`"
        )


def load_tenseal() -> ModuleType:
    """Import TenSEAL, which takes a moment and is not in every image.

    Raises:
        UsageError: It is not installed.
    """
    try:
        import tenseal
    except ImportError as error:
        raise UsageError("protection he needs TenSEAL: pip install 'crosscloud[encryption]'") from error
    return tenseal  # type: ignore[no-any-return]


def _loaded(context: bytes) -> Any:
    """Load a context and encrypt with it once, which shows its parameters as nothing else in TenSEAL does."""
    tenseal = load_tenseal()
    try:
        loaded = tenseal.context_from(context, n_threads=1)
        ciphertext_words(tenseal.ckks_vector(loaded, [0.0] * SLOTS, SCALE).serialize())
    except (CiphertextError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"this context cannot encrypt as he does ({error}): make one with `crosscloud keys init`"
        ) from error
    return loaded


def _serialised(context: Any, *, with_secret_key: bool) -> bytes:
    content: bytes = context.serialize(
        save_public_key=True, save_secret_key=with_secret_key, save_galois_keys=False, save_relin_keys=False
    )
    return content


def _fields(message: bytes) -> list[int]:
    """Numbers of a protocol buffer's outermost fields; empty if one is cut short or not length-delimited."""
    numbers: list[int] = []
    position = 0
    while position < len(message):
        if message[position] & 7 != 2:
            return []
        numbers.append(message[position] >> 3)
        size, position = _varint(message, position + 1)
        position += size
        if size == 0 or position > len(message):
            return []
    return numbers


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Read a base-128 number of at most five bytes and the position after it; zero if there is none."""
    value = 0
    for shift, byte in enumerate(message[position : position + 5]):
        value |= (byte & 127) << (7 * shift)
        if byte < 128:
            return value, position + shift + 1
    return 0, position
