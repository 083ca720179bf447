"""The public half of a secret key, from the secret one alone."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.agreement.protections import HE, MASKED, SEALED
from components.encryption.bfv import context as bfv_context
from components.encryption.ckks import context as ckks_context
from components.errors import UsageError


def public_half(protection: str, secret_context: bytes) -> bytes:
    """The public context that a secret one belongs to, byte for byte as it was published.

    Raises:
        UsageError: it is no secret context of the protection.
    """
    if protection == HE:
        return ckks_context.public_part(ckks_context.load_secret_context(secret_context))
    if protection == SEALED:
        return bfv_context.public_part(bfv_context.load_secret_context(secret_context))
    if protection == MASKED and len(secret_context) == 32:
        return X25519PrivateKey.from_private_bytes(secret_context).public_key().public_bytes_raw()
    raise UsageError(f"{len(secret_context)} bytes are no secret key of protection {protection}")
