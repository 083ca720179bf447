"""The public encryption context, checked against the fingerprint that the public keys name."""

from __future__ import annotations

from components.agreement.parties import Parties
from components.artifacts.stores import open_store
from components.encryption.protection import context_fingerprint
from components.errors import ObjectMissingError, RefusedError


def context_key(name: str) -> str:
    """Where the public context of a protection lies, below the public keys."""
    return f"contexts/{name}.public"


def public_context(keys_uri: str, name: str, parties: Parties) -> bytes:
    """The public encryption context of a protection; empty for one that needs none.

    Raises:
        RefusedError: it is missing, or not the one `public.yaml` names.
    """
    expected = parties.contexts.get(name)
    if not expected:
        return b""
    try:
        content = open_store(keys_uri).read(context_key(name))
    except ObjectMissingError:
        text = f"there is no public context for protection {name}: make it with 'crosscloud keys init'"
        raise RefusedError(text, disclosed=text) from None
    if context_fingerprint(content) != expected:
        text = f"the public context for protection {name} is not the one the public keys name"
        raise RefusedError(text, disclosed=text)
    return content
