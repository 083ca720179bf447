"""Keys of protection `sealed`, BFV contexts of TenSEAL, and the two operations that need them.

At a site they run in the step's own process, whose end is that site's refusal alone. The key holder
has no other to stand in for him, so he decrypts in a `decrypting_child`.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from components.encryption.bfv.packing import BLOCK_SLOTS, PLAIN_MODULUS
from components.encryption.bfv.plaintext import load_zstandard, plaintext_slots, serialised_plaintext
from components.encryption.bfv.words import (
    CIPHERTEXT_BYTES,
    PARAMETERS_HASH,
    RING_DEGREE,
    ciphertext_content,
    serialised_ciphertext,
)
from components.encryption.native.context_form import ContextForm
from components.encryption.native.native_child import Compute, NativeChild
from components.encryption.native.seal_scratch import ScratchFile
from components.encryption.native.tenseal_contexts import ContextKind, public_part
from components.errors import CiphertextError

__all__ = [
    "FORM",
    "BlockDecryptor",
    "BlockEncryptor",
    "decrypting_child",
    "generate_contexts",
    "load_public_context",
    "load_secret_context",
    "public_part",
    "public_part_of",
    "require_public",
]

COEFF_MOD_BIT_SIZES = (60, 60)
BLOCKS_AT_ONCE: Final = 4
"""Each stage runs for so many blocks in a row: a tenth faster than one block after the other."""
_SLOT_BYTES: Final = 8 * BLOCK_SLOTS


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


def public_part_of(secret_context: bytes) -> bytes:
    """Take the public context out of a secret one, by its outermost fields and its form alone.

    Raises:
        UsageError: It holds no secret key, or is no context of `sealed`.
    """
    return _KIND.public_part_of(secret_context)


def decrypting_child(secret_context: bytes) -> NativeChild:
    """Make a child that decrypts the words of a ciphertext to a block of 8192 slots, eight bytes each.

    Raises:
        UsageError: TenSEAL is not installed.
    """
    _KIND.load_tenseal()
    load_zstandard()

    def start() -> Compute:
        decryptor = BlockDecryptor(load_secret_context(secret_context))
        return lambda words: decryptor.decrypt(np.frombuffer(words, "<u8")).astype("<u8").tobytes()

    return NativeChild(start, part_bytes=CIPHERTEXT_BYTES, result_bytes=_SLOT_BYTES, at_once=BLOCKS_AT_ONCE)


class BlockEncryptor:
    """A public key, ready to encrypt block after block.

    Args:
        context: A context from `load_public_context`, which has shown that it cannot decrypt.
    """

    def __init__(self, context: Any) -> None:
        seal = _KIND.load_tenseal()._ts_cpp
        self._context = context.data.seal_context()
        self._encryptor = context.data.encryptor()
        self._plaintext, self._ciphertext = seal.Plaintext(), seal.Ciphertext()
        self._scratch = ScratchFile()

    def encrypt(self, slots: NDArray[np.uint64]) -> bytes:
        """Encrypt one block with fresh randomness; SEAL seeds its generator from the operating system.

        Args:
            slots: Shape (8192,), modulo the plaintext prime.

        Returns:
            The words of the ciphertext, 131,072 bytes.

        Raises:
            CiphertextError: SEAL wrote anything but a ciphertext of these parameters, or one that
                anybody can read.
        """
        self._plaintext.load(self._context, self._scratch.put(serialised_plaintext(slots)))
        self._encryptor.encrypt(self._plaintext, self._ciphertext)
        return ciphertext_content(self._scratch.saved(self._ciphertext.save))


class BlockDecryptor:
    """A secret key, ready to decrypt block after block.

    Args:
        context: A context from `load_secret_context`.

    Raises:
        ValueError: It cannot decrypt.
    """

    def __init__(self, context: Any) -> None:
        seal = _KIND.load_tenseal()._ts_cpp
        self._context = context.data.seal_context()
        self._decryptor = context.data.decryptor()
        self._plaintext, self._ciphertext = seal.Plaintext(), seal.Ciphertext()
        self._scratch = ScratchFile()

    def decrypt(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Decrypt one block.

        Args:
            words: Shape (16384,), of one ciphertext or of a sum.

        Returns:
            Shape (8192,), modulo the plaintext prime.

        Raises:
            CiphertextError: They are not the words of a ciphertext; SEAL has not seen them.
        """
        self._ciphertext.load(self._context, self._scratch.put(serialised_ciphertext(words)))
        self._decryptor.decrypt(self._ciphertext, self._plaintext)
        return plaintext_slots(self._scratch.saved(self._plaintext.save))


def _require(context: Any) -> None:
    """The parameters are ours: SEAL's own hash of those of a ciphertext says so."""
    parameters = struct.pack("<4Q", *context.data.seal_context().first_parms_id())
    if parameters != PARAMETERS_HASH:
        raise CiphertextError("its parameters are others")


FORM: Final = ContextForm(
    scheme=1,
    plain_modulus=PLAIN_MODULUS,
    parameters=bytes.fromhex(
        "5ea1100403020000490000000000000028b52ffd205985010014020100200002005ea110040300000018000180fe"
        "ffffffff0fc0ff40f8ffff3f0000050040c13b27071881c1172002"
    ),
    scale=-1.0,
)
_KIND: Final = ContextKind(protection="sealed", form=FORM, require=_require)
