"""The encryption context of a round, checked against the key holder's certificate."""

from __future__ import annotations

from components.agreement.attempt import Attempt
from components.agreement.key_certificate import CertifiedKey, context_key
from components.artifacts.stores import open_store
from components.encryption.framing import context_fingerprint
from components.encryption.secret_keys.key_store import KeyStore, SecretName
from components.errors import ObjectMissingError, ObjectTooLargeError, RefusedError

MAX_CONTEXT_BYTES = 1 << 20
"""Four times the size of every public context."""


def public_context(keys_uri: str, certified: CertifiedKey | None) -> bytes:
    """The public encryption context of a certificate; empty where there is none to have.

    Raises:
        RefusedError: it is missing, or not the one that the certificate names.
    """
    if certified is None:
        return b""
    certificate = certified.certificate
    try:
        key = context_key(certificate.protection, certificate.context)
        content = open_store(keys_uri).read(key, limit=MAX_CONTEXT_BYTES)
    except ObjectMissingError:
        text = f"the public context for protection {certificate.protection} is not there"
        raise RefusedError(text, disclosed=text) from None
    except ObjectTooLargeError:
        content = b""
    if context_fingerprint(content) != certificate.context:
        text = f"the public context for protection {certificate.protection} is not the certified one"
        raise RefusedError(text, disclosed=text)
    return content


def secret_context(attempt: Attempt) -> bytes:
    """The key holder's own context of the attempt's round, in the clear; empty where there is none to have.

    Raises:
        UsageError: it is missing, readable by others, or does not unwrap.
    """
    certified = attempt.certificate()
    if certified is None:
        return b""
    return KeyStore.open(attempt.keys_uri).read(SecretName.of(certified.certificate))
