"""What the coordinator erases in the exchange, signed before it goes, so that no site takes it for a loss.

pruned/20261128T195331.123456-5a0e81c2-000.json
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import COORDINATOR, Charter
from components.agreement.charter_book import charter_of, is_ancestor
from components.artifacts.documents import MAX_DOCUMENT_BYTES, sign, verify
from components.artifacts.stores import Store
from components.errors import SignatureError

DOMAIN = "pruned"
FOLDER = "pruned"
MOST_KEYS = 10_000
"""In one document."""


def publish_pruned(
    exchange: Store, keys: Sequence[str], *, charter: Charter, key: Ed25519PrivateKey, now: datetime
) -> None:
    """Says which objects of the exchange are about to be erased.

    Args:
        exchange: store that all parties read.
        keys: of the objects.
        charter: in force.
        key: the coordinator's.
        now: with its time zone.
    """
    at = now.isoformat(timespec="milliseconds")
    for number, start in enumerate(range(0, len(keys), MOST_KEYS)):
        body = {
            "charter": charter.digest,
            "federation": charter.federation,
            "at": at,
            "keys": list(keys[start : start + MOST_KEYS]),
        }
        name = f"{FOLDER}/{now:%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}-{number:03d}.json"
        exchange.create(name, sign(key, domain=DOMAIN, signer=COORDINATOR, body=body))


def pruned_keys(exchange: Store, keys_uri: str, charter: Charter) -> set[str]:
    """Every object that a coordinator of the federation has said to be erased.

    Raises:
        SignatureError: a document in `pruned/` is not of the coordinator of an edition that this charter
            follows from.
    """
    return {key for document in _documents(exchange) for key in _keys(document, keys_uri, charter)}


def _documents(exchange: Store) -> Iterator[bytes]:
    for key in exchange.keys(FOLDER):
        yield exchange.read(key, limit=MAX_DOCUMENT_BYTES)


def _keys(document: bytes, keys_uri: str, charter: Charter) -> list[str]:
    try:
        named = str(json.loads(document)["body"]["charter"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SignatureError("a list of erased objects is not in the form this version knows") from None
    if not is_ancestor(keys_uri, named, charter):
        raise SignatureError(f"a list of erased objects names a foreign charter, {named[:12]}")
    edition = charter_of(keys_uri, named)
    body = verify(document, domain=DOMAIN, signer=COORDINATOR, key=edition.key(COORDINATOR))
    keys = body.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise SignatureError("a list of erased objects is not in the form this version knows")
    return keys
