"""The private keys of one party: PEM files in a folder that only their owner can read.

In a cluster the folder is mounted below MOUNTED_KEYS from the owner's secret; elsewhere it lies
below $CROSSCLOUD_KEYS, by default beside the charter (`gcp/signing.key`, `gcp/agreement.key`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from components.artifacts.documents import framed
from components.artifacts.stores import local_path
from components.errors import UsageError

SIGNING_KEY = "signing.key"
AGREEMENT_KEY = "agreement.key"
MOUNTED_KEYS = Path("/var/run/secrets/crosscloud")


def private_folder(keys_uri: str, owner: str) -> Path:
    """The folder that only `owner` reads.

    Raises:
        UsageError: the charter is remote and no folder is set for private keys.
    """
    if (MOUNTED_KEYS / owner).is_dir():
        return MOUNTED_KEYS / owner
    configured = os.environ.get("CROSSCLOUD_KEYS")
    if configured:
        return Path(configured) / owner
    if "://" in keys_uri and not keys_uri.startswith("file://"):
        raise UsageError(
            f"public keys lie at {keys_uri}, private keys need a folder of this machine: "
            "set CROSSCLOUD_KEYS to it"
        )
    return local_path(keys_uri) / owner


def load_signing_key(keys_uri: str, owner: str, *, name: str = SIGNING_KEY) -> Ed25519PrivateKey:
    """Reads the owner's Ed25519 private key.

    Args:
        keys_uri: folder of the charters.
        owner: whose it is.
        name: of the file; by default the key made last. `replaced_keys` finds the one a charter names.

    Raises:
        UsageError: it is missing, readable by others, or not an Ed25519 key.
    """
    path = private_folder(keys_uri, owner) / name
    key = _load(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} must hold an Ed25519 key")
    return key


def load_agreement_key(keys_uri: str, owner: str, *, name: str = AGREEMENT_KEY) -> X25519PrivateKey:
    """Reads the owner's X25519 private key, which its pair keys with other sites come from.

    Args:
        keys_uri: folder of the charters.
        owner: whose it is.
        name: of the file; by default the key made last.

    Raises:
        UsageError: it is missing, readable by others, or not an X25519 key.
    """
    path = private_folder(keys_uri, owner) / name
    key = _load(path)
    if not isinstance(key, X25519PrivateKey):
        raise UsageError(f"{path} must hold an X25519 key")
    return key


def _load(path: Path) -> object:
    check_private(path)
    try:
        return load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(f"{path} is not a private key in PEM form") from None


def check_private(path: Path) -> None:
    """A private file must exist and, unless it is mounted from a secret, be its owner's alone."""
    if not path.is_file():
        raise UsageError(f"no private key at {path}: make it with 'crosscloud keys init' or mount it there")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 and not path.is_relative_to(MOUNTED_KEYS):
        raise UsageError(f"{path} has mode {mode:04o} and may be read by others: 'chmod 600' it")


def write_private(path: Path, content: bytes) -> None:
    """Creates a file that only its owner can read, whole or not at all, in a folder only he can enter.

    Raises:
        FileExistsError: it is there already.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def pem(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    """PKCS #8 PEM of a private key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def derived_key(key: Ed25519PrivateKey, purpose: str) -> bytes:
    """A 32-byte key for one purpose that only the owner of the signing key can derive (HMAC-SHA256)."""
    return hmac.digest(key.private_bytes_raw(), b"crosscloud " + purpose.encode(), hashlib.sha256)


def keyed_digest(key: Ed25519PrivateKey, parts: Iterable[bytes]) -> str:
    """HMAC-SHA256 of length-prefixed parts under a key that only the owner can derive.

    A plain digest of records that others see would let them confirm a guess; this one does not.
    """
    return hmac.new(derived_key(key, "keyed digests"), framed(parts), hashlib.sha256).hexdigest()
