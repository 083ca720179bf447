"""Who takes part and under which keys.

`keys/public.yaml` lies beside the state and holds every party's public key. A private key is a
PEM file in its owner's own folder (`gcp/signing.key`): in a cluster below MOUNTED_KEYS, mounted
from the owner's secret; elsewhere below $CROSSCLOUD_KEYS, by default beside the public keys.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from components.artifacts.stores import local_path, open_store
from components.errors import ObjectMissingError, SignatureError, UsageError

COORDINATOR = "coordinator"
KEY_HOLDER = "key-holder"
PUBLIC_KEYS = "public.yaml"
SIGNING_KEY = "signing.key"
MOUNTED_KEYS = Path("/var/run/secrets/crosscloud")


@dataclass(frozen=True, kw_only=True)
class Parties:
    """Public keys of one federation.

    Attributes:
        federation: its id.
        keys: Ed25519 public key by owner: every site, `coordinator` and `key-holder`.
        contexts: fingerprint of the public encryption context by protection.
    """

    federation: str
    keys: Mapping[str, Ed25519PublicKey]
    contexts: Mapping[str, str]

    def key(self, owner: str) -> Ed25519PublicKey:
        """Raises `SignatureError` for an owner that has no key here."""
        try:
            return self.keys[owner]
        except KeyError:
            raise SignatureError(f"{owner} has no public key in {PUBLIC_KEYS} of {self.federation}") from None

    def to_yaml(self) -> bytes:
        """The content of `public.yaml`."""
        return yaml.safe_dump(
            {
                "format": 1,
                "federation": self.federation,
                "keys": {
                    owner: base64.b64encode(key.public_bytes_raw()).decode()
                    for owner, key in self.keys.items()
                },
                "contexts": dict(self.contexts),
            },
            sort_keys=True,
        ).encode()


def load_parties(keys_uri: str) -> Parties:
    """Reads `public.yaml` below `keys_uri`.

    Raises:
        UsageError: there is none, or it is not in this form.
        SignatureError: two parties have the same key.
    """
    try:
        content = open_store(keys_uri).read(PUBLIC_KEYS, limit=1 << 20)
    except ObjectMissingError:
        raise UsageError(
            f"no public keys at {keys_uri}/{PUBLIC_KEYS}: make them with 'crosscloud keys init'"
        ) from None
    try:
        _require_unique(yaml.compose(content, yaml.SafeLoader))
        document: Any = yaml.safe_load(content)
        raw = {owner: base64.b64decode(text, validate=True) for owner, text in document["keys"].items()}
        keys = {owner: Ed25519PublicKey.from_public_bytes(value) for owner, value in raw.items()}
        contexts = dict(document["contexts"].items())
        parties = Parties(federation=document["federation"], keys=keys, contexts=contexts)
        is_known = document["format"] == 1 and isinstance(parties.federation, str)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{keys_uri}/{PUBLIC_KEYS} is not a list of public keys: make it with 'crosscloud keys init'"
        ) from error
    if not is_known:
        raise UsageError(
            f"{keys_uri}/{PUBLIC_KEYS} is not a list of public keys: this version reads format 1, "
            "make it with 'crosscloud keys init'"
        )
    if len(set(raw.values())) != len(raw):
        raise SignatureError(f"two parties of {parties.federation} have the same public key")
    return parties


def _require_unique(node: yaml.Node | None) -> None:
    """YAML keeps the last of two equal keys without a word; a party's key must not vanish that way."""
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        if len(set(names)) != len(names):
            raise ValueError(names)
        for _, value in node.value:
            _require_unique(value)


def private_folder(keys_uri: str, owner: str) -> Path:
    """The folder that only `owner` reads.

    Raises:
        UsageError: the public keys are remote and no folder is set for the private ones.
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


def load_signing_key(keys_uri: str, owner: str) -> Ed25519PrivateKey:
    """Reads the owner's Ed25519 private key.

    Raises:
        UsageError: it is missing, readable by others, or not an Ed25519 key.
    """
    path = private_folder(keys_uri, owner) / SIGNING_KEY
    check_private(path)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(f"{path} is not a private key in PEM form") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} must hold an Ed25519 key")
    return key


def check_private(path: Path) -> None:
    """A private file must exist and, unless it is mounted from a secret, be its owner's alone."""
    if not path.is_file():
        raise UsageError(f"no private key at {path}: make it with 'crosscloud keys init' or mount it there")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 and not path.is_relative_to(MOUNTED_KEYS):
        raise UsageError(f"{path} has mode {mode:04o} and may be read by others: 'chmod 600' it")


def write_private(path: Path, content: bytes) -> None:
    """Creates a file that only its owner can read, in a folder that only its owner can enter."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def pem(key: Ed25519PrivateKey) -> bytes:
    """PKCS #8 PEM of a private key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def keyed_digest(key: Ed25519PrivateKey, parts: Iterable[bytes]) -> str:
    """HMAC-SHA256 of length-prefixed parts under a key that only the owner can derive.

    A plain digest of records that others see would let them confirm a guess; this one does not.
    """
    derived = hmac.digest(key.private_bytes_raw(), b"crosscloud keyed digests", hashlib.sha256)
    return hmac.new(derived, framed(parts), hashlib.sha256).hexdigest()


def framed(parts: Iterable[bytes]) -> bytes:
    """Parts with their lengths (8 bytes, big-endian) before them: no two sequences look alike."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
