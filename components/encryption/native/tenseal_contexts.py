"""TenSEAL contexts, public and secret, told apart before TenSEAL loads them.

A context is a protocol buffer with the fields encryption_parameters = 1, public_context = 2,
private_context = 3 and encryption_type = 4, which public-key encryption leaves out (it is zero).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from components.encryption.native.context_form import ContextForm
from components.errors import CiphertextError, UsageError
from components.execution.process_limits import memory_limited

SUSPECT: Final = b"the public context"
"""What a crash of TenSEAL at a site is put down to: nothing else there is from elsewhere."""
_PUBLIC_FIELDS = [1, 2]
_SECRET_FIELDS = [1, 2, 3]
_LOADING_BYTES: Final = 64 << 20
"""What loading may take; a context of 262 kB and the tables for it take 3 MB."""


@dataclass(frozen=True, kw_only=True)
class ContextKind:
    """The contexts of one protection.

    Attributes:
        protection: Its name, for messages.
        form: How its public contexts are written.
        require: Raises `CiphertextError`, `ValueError` or `RuntimeError` unless a loaded context is of the
            protection's parameters.
    """

    protection: str
    form: ContextForm
    require: Callable[[Any], None]

    def load_tenseal(self) -> ModuleType:
        """Import TenSEAL, which takes a moment and is not in every image.

        Raises:
            UsageError: It is not installed.
        """
        try:
            import tenseal
        except ImportError as error:
            raise UsageError(
                f"protection {self.protection} needs TenSEAL: pip install 'crosscloud[encryption]'"
            ) from error
        return tenseal  # type: ignore[no-any-return]

    def both_parts(self, context: Any) -> tuple[bytes, bytes]:
        """Serialise a new context without and with its secret key.

        Raises:
            UsageError: What TenSEAL wrote is not told apart by its outermost fields.
        """
        public, secret = public_part(context), _serialised(context, with_secret_key=True)
        self.require_public(public)
        self._require_secret(secret)
        self._require_form(public)
        if self.public_part_of(secret) != public:
            raise UsageError("TenSEAL wrote another public key into the secret context: no keys were made")
        return public, secret

    def load_public(self, public_context: bytes) -> Any:
        """Load a context that can encrypt and cannot decrypt, whatever it says of itself.

        Raises:
            UsageError: It holds a secret key, or is no context of the protection.
        """
        self.require_public(public_context)
        context = self._loaded(public_context)
        if (
            _can_decrypt(context)
            or context.is_private()
            or context.has_secret_key()
            or not context.has_public_key()
        ):
            raise UsageError(
                "this context is not a public one: give a site and the aggregator keys made by `keys init`"
            )
        return context

    def load_secret(self, secret_context: bytes) -> Any:
        """Load a context that can decrypt.

        Raises:
            UsageError: It holds no secret key, or is no context of the protection.
        """
        self._require_secret(secret_context)
        context = self._loaded(secret_context)
        if not context.is_private() or not context.has_secret_key():
            raise UsageError("this context holds no secret key: only the key holder's own can open")
        return context

    def public_part_of(self, secret_context: bytes) -> bytes:
        """Take the public context out of a secret one, which TenSEAL need not load for it.

        Raises:
            UsageError: It holds no secret key, or is no context of the protection.
        """
        self._require_secret(secret_context)
        self._require_form(secret_context)
        return secret_context[: self._public_bytes(secret_context)]

    def require_public(self, public_context: bytes) -> None:
        """Pass the serialisation of a public context, by its outermost fields alone.

        Raises:
            UsageError: It holds a secret key, or is no context at all.
        """
        fields = _fields(public_context)
        if fields == _SECRET_FIELDS:
            raise UsageError(
                "this context holds a secret key: a site and the aggregator may be given the public one only"
            )
        if fields != _PUBLIC_FIELDS:
            raise UsageError(
                f"{len(public_context)} bytes are no public context of {self.protection}: "
                "make one with `crosscloud keys init`"
            )

    def _require_secret(self, secret_context: bytes) -> None:
        fields = _fields(secret_context)
        if fields == _PUBLIC_FIELDS:
            raise UsageError("this context holds no secret key: only the key holder's own can open")
        if fields != _SECRET_FIELDS:
            raise UsageError(
                f"{len(secret_context)} bytes are no secret context of {self.protection}: "
                "make one with `crosscloud keys init`"
            )

    def _require_form(self, content: bytes) -> None:
        """Passes a context whose public part is of the protection's form.

        Raises:
            UsageError: It is not.
        """
        try:
            self.form.require(content[: self._public_bytes(content)])
        except CiphertextError as error:
            raise self._unusable(error) from error

    def _public_bytes(self, content: bytes) -> int:
        """How many bytes come before the secret key, in a context with fields that have passed."""
        position = 0
        for _ in _PUBLIC_FIELDS:
            size, position = _varint(content, position + 1)
            position += size
        return position

    def _loaded(self, content: bytes) -> Any:
        self._require_form(content)
        tenseal = self.load_tenseal()
        try:
            with memory_limited(_LOADING_BYTES):
                context = tenseal.context_from(content, n_threads=1)
                self.require(context)
        except (CiphertextError, ValueError, RuntimeError) as error:
            raise self._unusable(error) from error
        except MemoryError as error:
            raise self._unusable(f"it takes more than {_LOADING_BYTES >> 20} MB") from error
        return context

    def _unusable(self, error: Exception | str) -> UsageError:
        return UsageError(
            f"this context cannot encrypt as {self.protection} does ({error}): "
            "make one with `crosscloud keys init`"
        )


def public_part(context: Any) -> bytes:
    """Serialise a loaded context without its secret key; the same bytes from either half of a key pair."""
    return _serialised(context, with_secret_key=False)


def _can_decrypt(context: Any) -> bool:
    try:
        context.data.decryptor()
    except ValueError:
        return False
    return True


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
