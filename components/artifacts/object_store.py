"""A store in a bucket of S3 (or a server that speaks it), Google Cloud Storage or Azure Blob Storage.

Every create carries the service's own condition: `If-None-Match: *` on S3 and Azure, `ifGenerationMatch=0`
on Google Cloud. A server that ignores the condition would let two runs overwrite each other without a word,
so before its first create a store makes sure, with an object nobody else uses, that a second create fails.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, BinaryIO

from components.artifacts.file_store import write_whole
from components.artifacts.object_keys import check_key, check_prefix, is_key
from components.artifacts.object_services import LARGEST_OBJECT, Place, answer_of
from components.artifacts.object_transfers import block_reader
from components.errors import (
    ConditionalCreateUnsupportedError,
    ObjectExistsError,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreError,
)

# S3 answers so to a create that met another one in flight; asking again tells who was first.
_CONFLICT = "ConditionalRequestConflict"
_BLOB_EXISTS = "BlobAlreadyExists"
_CONFLICT_DELAYS = (0.05, 0.1, 0.2, 0.4)
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
# Not a key, so it is never listed and nobody else can mean it.
_PROBE = ".conditional-create-probe"
_PROBE_CONTENT = b"crosscloud creates this object twice, to learn whether the second create is refused.\n"


class ObjectStore:
    """Objects below a prefix of a bucket, through the service's fsspec client.

    Nothing is answered from a cache. Retries are the client's: when the answer to a create got lost, its
    retry meets the object of the first try, and `create` says `ObjectExistsError` although the content is
    ours. Equal bytes would not prove that, because two parties may write the same; a caller who must know
    writes something that only he can write, and compares.
    """

    def __init__(self, uri: str, place: Place) -> None:
        self.uri = uri
        self._place = place
        self._condition_is_honoured = False

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Content of `key`.

        Args:
            key: Name of the object.
            limit: Largest size in bytes that is loaded.

        Raises:
            ObjectMissingError: There is no such object.
            ObjectTooLargeError: It is larger than `limit`.
            StoreError: The service cannot be used.
        """
        path = self._path(check_key(key))
        with self._named_failures("read", key):
            if limit is None:
                return bytes(self._client.cat_file(path))
            size = self._size(path)
            if size is None:
                raise ObjectMissingError(f"{self.uri}/{key} is not there")
            if size > limit:
                raise ObjectTooLargeError(f"{self.uri}/{key} has {size} bytes, at most {limit} are read")
            # A range, so that an object replaced behind our back cannot be longer than what was checked.
            return bytes(self._client.cat_file(path, start=0, end=size)) if size else b""

    def open(self, key: str) -> BinaryIO:
        """Content of `key`, to be read from front to back; each block is fetched when it is come to.

        Reading raises what `read` raises.

        Raises:
            ObjectMissingError: There is no such object.
            StoreError: The service cannot be used.
        """
        size, path = self.size(key), self._path(key)

        def fetch(start: int, end: int) -> bytes:
            with self._named_failures("read", key):
                return bytes(self._client.cat_file(path, start=start, end=end))

        return block_reader(size, fetch)

    def create(self, key: str, content: bytes) -> None:
        """Write `content` as `key`, whole and only if there is no such object yet.

        Raises:
            ObjectExistsError: `key` was created before; what is there is unchanged.
            ConditionalCreateUnsupportedError: The service ignores or refuses the condition.
            StoreError: The service cannot be used, or `content` is larger than one request carries.
        """
        check_key(key)
        self._require_fitting(key, len(content))
        self._require_condition()
        if not self._put(key, content):
            raise ObjectExistsError(f"{self.uri}/{key} is already there")

    def create_from(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write the bytes of all `chunks` as `key`, whole and only if there is no such object yet.

        They are gathered in a temporary file of this machine, which needs room for all of them, and sent
        from there in one request; memory does not grow with their size. What the iterator raises passes
        on, and nothing is written.

        Raises:
            ObjectExistsError: `key` was created before; what is there is unchanged.
            ConditionalCreateUnsupportedError: The service ignores or refuses the condition.
            StoreError: The service cannot be used, the temporary file cannot be written, or the chunks
                are larger than one request carries.
        """
        # Only a shortcut that spares making and sending a large loser: the condition is what decides.
        if self.exists(key):
            raise ObjectExistsError(f"{self.uri}/{key} is already there")
        self._require_condition()
        with ExitStack() as stack:
            with self._local_failures(key):
                spool = stack.enter_context(tempfile.TemporaryFile(buffering=0))
            size = 0
            for chunk in chunks:
                size += len(chunk)
                self._require_fitting(key, size)
                with self._local_failures(key):
                    write_whole(spool.fileno(), chunk)
            service, path = self._place.service, self._path(key)
            if not self._created(key, lambda: service.put_file(self._client, path, spool, size)):
                raise ObjectExistsError(f"{self.uri}/{key} is already there")

    def remove(self, key: str) -> None:
        """Delete `key`; nothing happens if there is no such object.

        A bucket with versioning, soft delete or object lock keeps the content for as long as its
        administrator has set: for what must be gone for good, use a bucket without them.

        Raises:
            StoreError: The service cannot be used.
        """
        with self._named_failures("remove", check_key(key)):
            try:
                self._client.rm_file(self._path(key))
            except FileNotFoundError as error:
                if answer_of(error)[1] in _NO_BUCKET:
                    raise

    def size(self, key: str) -> int:
        """Bytes of `key`.

        Raises:
            ObjectMissingError: There is no such object.
            StoreError: The service cannot be used.
        """
        with self._named_failures("look up", check_key(key)):
            size = self._size(self._path(key))
        if size is None:
            raise ObjectMissingError(f"{self.uri}/{key} is not there")
        return size

    def exists(self, key: str) -> bool:
        """Whether `key` is there.

        Raises:
            StoreError: The service cannot be used.
        """
        with self._named_failures("look up", check_key(key)):
            return self._size(self._path(key)) is not None

    def keys(self, prefix: str = "") -> list[str]:
        """Sorted keys, whole from the store's root, that lie below `prefix` at a slash.

        Raises:
            StoreError: The service cannot be used.
        """
        below = f"{check_prefix(prefix)}/" if prefix else ""
        with self._named_failures("list", below):
            names = [str(name) for name in self._client.find(self._place.path, prefix=below)]
        root = self._path("")
        keys = (name.removeprefix(root) for name in names if name.startswith(root + below))
        return sorted(key for key in keys if is_key(key))

    @cached_property
    def _client(self) -> Any:
        return self._place.service.connect(self._place.options)

    @cached_property
    def _failure_types(self) -> tuple[type[Exception], ...]:
        return self._place.service.failure_types()

    def _path(self, key: str) -> str:
        return f"{self._place.path}/{key}"

    def _size(self, path: str) -> int | None:
        """Size of an object in bytes; None where there is none, or only a prefix of others."""
        try:
            found = self._client.info(path)
        except FileNotFoundError as error:
            if answer_of(error)[1] in _NO_BUCKET:
                raise
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def _put(self, key: str, content: bytes) -> bool:
        service = self._place.service
        return self._created(
            key, lambda: self._client.pipe_file(self._path(key), content, **service.if_absent)
        )

    def _created(self, key: str, put: Callable[[], object]) -> bool:
        """Whether the conditional request that `put` makes created the object; False if it was there."""
        delays = iter(_CONFLICT_DELAYS)
        while True:
            try:
                put()
            except self._failure_types as error:
                status, code = answer_of(error)
                if isinstance(error, FileExistsError) or status == 412 or code == _BLOB_EXISTS:
                    return False
                delay = next(delays, None)
                if code != _CONFLICT or delay is None:
                    raise self._named("write", key, error) from None
                time.sleep(delay)
            else:
                return True

    def _require_condition(self) -> None:
        """Return once it is known that the service honours the condition."""
        # One request where the probe is there already; the second create is the trial where it was not.
        if self._condition_is_honoured:
            return
        if self._put(_PROBE, _PROBE_CONTENT) and self._put(_PROBE, _PROBE_CONTENT):
            raise ConditionalCreateUnsupportedError(
                f"{self.uri} cannot hold a store: its server overwrites what was to be created only if"
                " absent, so two runs could overwrite each other; use one that honours conditional writes"
            )
        self._condition_is_honoured = True

    def _require_fitting(self, key: str, size: int) -> None:
        if size > LARGEST_OBJECT:
            raise StoreError(
                f"{self.uri}/{key} would have {size} bytes or more: at most {LARGEST_OBJECT} fit"
            )

    @contextmanager
    def _local_failures(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise StoreError(
                f"cannot gather {self.uri}/{key} in a temporary file: {reason}; make room there, or name"
                " another folder in TMPDIR"
            ) from error

    @contextmanager
    def _named_failures(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except self._failure_types as error:
            # Without its cause, whose text is not ours and may quote a signed URL.
            raise self._named(verb, key, error) from None

    def _named(self, verb: str, key: str, error: Exception) -> StoreError:
        status, code = answer_of(error)
        which = f"cannot {verb} {self.uri}/{key}: {code or status or type(error).__name__}"
        if isinstance(error, FileNotFoundError) or status == 404:
            if verb == "read" and code not in _NO_BUCKET:
                return ObjectMissingError(f"{self.uri}/{key} is not there")
            return StoreError(f"{which}; the bucket is not there: create it or mend the URI")
        # gcsfs tells a 403 apart by this word only.
        if isinstance(error, PermissionError) or status in {401, 403} or str(error).startswith("Forbidden"):
            return StoreError(
                f"{which}; access is refused: check what this process's credentials may do there"
            )
        if verb == "write" and status == 501:
            return ConditionalCreateUnsupportedError(
                f"{which}; the server has no conditional writes: use one that honours them"
            )
        return StoreError(
            f"{which}; check that the service can be reached and that there are credentials for it"
        )
