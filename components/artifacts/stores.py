"""Where a federation's objects lie, and how a URI names the place.

A store holds objects that are created once and never change. Everything that must not be done twice (a
round's commit, a roster, a charge to a privacy ledger) rests on one promise: of all who create the same
key, one succeeds. Stores that cannot keep it are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote

from components.artifacts.file_store import FileStore
from components.artifacts.object_keys import is_key
from components.artifacts.object_services import place_of
from components.artifacts.object_store import ObjectStore
from components.errors import ObjectExistsError, RefusedError, UsageError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
# References travel through Kubeflow as text inside JSON, where these characters would end the string.
_NOT_IN_JSON_TEXT = re.compile(r'["\\\x00-\x1f\x7f]')


class Store(Protocol):
    """Objects by key, created if absent, whole or not at all, never changed; erased only to be forgotten."""

    uri: str

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Content of `key`; `ObjectMissingError` if absent, `StoreError` above `limit` bytes."""
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Content of `key` to be read from front to back; `ObjectMissingError` if absent."""
        ...

    def create(self, key: str, content: bytes) -> None:
        """Write `content` as `key`; `ObjectExistsError` if it is there, and then nothing changes."""
        ...

    def create_from(self, key: str, chunks: Iterable[bytes]) -> None:
        """Like `create`, in memory that does not grow with the content.

        If `chunks` raises, nothing is left and the error passes on; where `key` is there already, `chunks`
        may not be begun at all.
        """
        ...

    def remove(self, key: str) -> None:
        """Erase `key`, which is no fault if it is not there; see the store for what its medium keeps."""
        ...

    def exists(self, key: str) -> bool:
        """Whether `key` is there."""
        ...

    def size(self, key: str) -> int:
        """Bytes of `key`; `ObjectMissingError` if absent."""
        ...

    def keys(self, prefix: str = "") -> list[str]:
        """Sorted keys, whole from the store's root, that lie below `prefix` at a slash."""
        ...


def crosscloud_home() -> Path:
    """Folder that relative store URIs start from: `$CROSSCLOUD_HOME`, else `.crosscloud` here."""
    return Path(os.environ.get("CROSSCLOUD_HOME") or ".crosscloud").absolute()


def local_path(uri: str) -> Path:
    """Folder that a relative path (below `crosscloud_home()`), an absolute path or a file:// URI names.

    Raises:
        UsageError: `uri` is empty, has another scheme, or leaves `crosscloud_home()` by "..".
    """
    if not uri or _NOT_IN_JSON_TEXT.search(uri):
        raise UsageError(f"{uri!r} is not a store URI: write a path without quotes or control characters")
    if uri.startswith("file://"):
        path = unquote(uri.removeprefix("file://"))
        if not path.startswith("/"):
            raise UsageError(f"{uri!r} names no absolute path: write file:///folder, or a relative path")
        return Path(path)
    if _SCHEME.match(uri):
        raise UsageError(f"{uri!r} is not a local folder: write a path or a file:// URI")
    if ".." in Path(uri).parts:
        raise UsageError(f"{uri!r} contains '..': write a path below CROSSCLOUD_HOME or an absolute one")
    return crosscloud_home() / uri


def open_store(uri: str) -> Store:
    """The store that `uri` names: a path (see `local_path`), file://, s3://, gs:// or abfs://.

    Nothing is contacted or created before the first use.

    Raises:
        UsageError: Another scheme, an invalid URI, or the scheme's package is not installed.
    """
    bare = uri.rstrip("/")
    if _SCHEME.match(uri) is None or uri.startswith("file://"):
        return FileStore(bare or uri, local_path(uri))
    return ObjectStore(bare, place_of(bare))


def create_or_read(store: Store, key: str, content: bytes) -> bytes:
    """Create `key`; if somebody was first, what they created. Either way: what is there for everybody."""
    try:
        store.create(key, content)
    except ObjectExistsError:
        return store.read(key)
    return content


def reference(store: Store, key: str) -> str:
    """What steps hand to each other instead of an object: the store's URI and the key in one line."""
    return f"{store.uri}/{key}"


def key_of(store: Store, reference: str) -> str:
    """Key of a `reference` that must lie in `store`.

    Raises:
        RefusedError: It lies elsewhere, so following it could leave the store a party agreed to.
    """
    prefix = f"{store.uri}/"
    key = reference.removeprefix(prefix)
    if not reference.startswith(prefix) or not is_key(key):
        raise RefusedError(
            f"reference {reference!r} does not lie in store {store.uri!r}: hand over what reference() returns"
        )
    return key
