"""Canonical JSON and signed documents: what parties say to each other, and who said it.

A signed document is one JSON object `{"body": …, "signature": …, "signer": …}`. The signature is
Ed25519 (RFC 8032) over a domain string, a zero byte and SHA-256 of the body's canonical JSON
(RFC 8785), so that a document of one kind can never stand for one of another kind.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from components.errors import SignatureError

MAX_DOCUMENT_BYTES = 4 * 2**20


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value: one value, one encoding."""
    return rfc8785.dumps(value)


def digest(content: bytes) -> str:
    """SHA-256 of `content` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def framed(parts: Iterable[bytes]) -> bytes:
    """Parts with their lengths (8 bytes, big-endian) before them: no two sequences look alike."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def sign(key: Ed25519PrivateKey, *, domain: str, signer: str, body: Mapping[str, Any]) -> bytes:
    """Returns the signed document of `body`, in canonical form."""
    return _envelope(body, key.sign(_message(domain, body)), signer)


def verify(document: bytes, *, domain: str, signer: str, key: Ed25519PublicKey) -> dict[str, Any]:
    """Returns the body of a document that `signer` signed for `domain`.

    Raises:
        SignatureError: the document is not of this form, byte for byte, names another signer, or
            its signature is not `signer`'s over exactly this body.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise SignatureError(f"a document of {signer} has {len(document)} bytes, over {MAX_DOCUMENT_BYTES}")
    try:
        envelope = json.loads(document)
        body, named = envelope["body"], envelope["signer"]
        signature = base64.b64decode(envelope["signature"], validate=True)
        # One document, one form: receipts are chained by the digest of the whole document.
        canonical = isinstance(body, dict) and _envelope(body, signature, named) == document
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SignatureError(f"a document of {signer} is not a signed document") from error
    if named != signer or not isinstance(body, dict):
        raise SignatureError(f"a document that should be {signer}'s names another signer")
    if not canonical:
        raise SignatureError(f"a document of {signer} is not in canonical form")
    try:
        key.verify(signature, _message(domain, body))
    except InvalidSignature as error:
        raise SignatureError(f"the signature of {signer} on a {domain} document does not verify") from error
    return body


def _envelope(body: Mapping[str, Any], signature: bytes, signer: str) -> bytes:
    return canonical_json(
        {"body": dict(body), "signature": base64.b64encode(signature).decode(), "signer": signer}
    )


def _message(domain: str, body: Mapping[str, Any]) -> bytes:
    return b"crosscloud " + domain.encode() + b"\x00" + hashlib.sha256(canonical_json(dict(body))).digest()
