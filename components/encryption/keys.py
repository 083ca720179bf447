"""Makes the keys of a federation whose parties are all on this machine."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.parties import (
    COORDINATOR,
    KEY_HOLDER,
    PUBLIC_KEYS,
    SIGNING_KEY,
    Parties,
    load_parties,
    pem,
    private_folder,
    write_private,
)
from components.artifacts.stores import Store, local_path, open_store
from components.encryption.contexts import context_key
from components.encryption.protection import context_fingerprint, generate_contexts
from components.errors import UsageError


def initialise_keys(
    federation: str, sites: Sequence[str], *, keys_uri: str, protections: Sequence[str]
) -> Parties:
    """Generates every owner's signing key and the key holder's encryption contexts.

    All of them appear at once: they are made in a hidden folder that is renamed, so that a killed
    start leaves no half-made set and of two simultaneous starts one makes the keys.

    Args:
        federation: id of the federation.
        sites: names of the sites; each becomes the owner of a folder.
        keys_uri: where the public keys are to lie.
        protections: names of the protections to make contexts for.

    Raises:
        UsageError: there are keys already.
    """
    folder = private_folder(keys_uri, KEY_HOLDER).parent
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds keys already: they are made once; remove the folder to start over")
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = folder.with_name(f".{folder.name}-{secrets.token_hex(8)}")
    try:
        parties = _make(staging, federation, sites, protections)
        try:
            staging.rename(folder)
        except OSError:
            raise UsageError(f"{folder} was made by another process in the meantime") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if _is_elsewhere(folder, keys_uri):
        _publish(folder, open_store(keys_uri), parties)
    return load_parties(keys_uri)


def _make(staging: Path, federation: str, sites: Sequence[str], protections: Sequence[str]) -> Parties:
    keys: dict[str, Ed25519PrivateKey] = {}
    for owner in (*sites, COORDINATOR, KEY_HOLDER):
        keys[owner] = Ed25519PrivateKey.generate()
        write_private(staging / owner / SIGNING_KEY, pem(keys[owner]))
    contexts: dict[str, str] = {}
    for name in protections:
        public, secret = generate_contexts(name)
        if public:
            write_private(staging / KEY_HOLDER / f"{name}.secret", secret)
            write_private(staging / context_key(name), public)
            contexts[name] = context_fingerprint(public)
    parties = Parties(
        federation=federation,
        keys={owner: key.public_key() for owner, key in keys.items()},
        contexts=contexts,
    )
    write_private(staging / PUBLIC_KEYS, parties.to_yaml())
    return parties


def _is_elsewhere(folder: Path, keys_uri: str) -> bool:
    """Whether public keys lie in another place than private ones: another folder, or a remote store."""
    remote = "://" in keys_uri and not keys_uri.startswith("file://")
    return remote or local_path(keys_uri) != folder


def _publish(folder: Path, store: Store, parties: Parties) -> None:
    for name in parties.contexts:
        store.create(context_key(name), (folder / context_key(name)).read_bytes())
    store.create(PUBLIC_KEYS, parties.to_yaml())
