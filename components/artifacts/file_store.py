"""A store in a folder: an object is a file that appears whole, once, and never changes."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from components.artifacts.object_keys import check_key, check_prefix, is_key
from components.errors import (
    ConditionalCreateUnsupportedError,
    ObjectExistsError,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreError,
)

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_NOT_A_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
# What file systems answer that have no hard links: FAT, exFAT and SMB shares, buckets mounted as folders.
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class FileStore:
    """Objects as files below a root folder, readable by their owner only.

    An object is written under a temporary name that starts with a dot, synced, and then given its final
    name by a hard link: the kernel makes the link for one creator only, and a reader sees the whole
    content or nothing. A temporary file left by a killed process is not a key and is in nobody's way.
    """

    def __init__(self, uri: str, root: Path) -> None:
        self.uri = uri
        self._root = root.resolve()

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Content of `key`.

        Args:
            key: Name of the object.
            limit: Largest size in bytes that is loaded.

        Raises:
            ObjectMissingError: There is no such object.
            ObjectTooLargeError: It is larger than `limit`.
            StoreError: It cannot be read.
        """
        path = self._path(check_key(key))
        with self._refusals("read", path):
            try:
                file = path.open("rb")
            except _NOT_A_FILE:
                raise self._missing(key) from None
            with file:
                size = os.fstat(file.fileno()).st_size
                if limit is not None and size > limit:
                    raise ObjectTooLargeError(f"{self.uri}/{key} has {size} bytes, at most {limit} are read")
                return file.read()

    def open(self, key: str) -> BinaryIO:
        """Content of `key`, to be read from front to back.

        Raises:
            ObjectMissingError: There is no such object.
            StoreError: It cannot be read.
        """
        path = self._path(check_key(key))
        with self._refusals("read", path):
            try:
                return path.open("rb")
            except _NOT_A_FILE:
                raise self._missing(key) from None

    def create(self, key: str, content: bytes) -> None:
        """Write `content` as `key`, whole and only if there is no such object yet.

        Raises:
            ObjectExistsError: Somebody created `key` before; what is there is unchanged.
            ConditionalCreateUnsupportedError: The file system has no hard links.
            StoreError: The folder cannot be written.
        """
        self.create_from(key, (content,))

    def create_from(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write the bytes of all `chunks` as `key`, whole and only if there is no such object yet.

        Each is written as it comes, so memory does not grow with their number. What the iterator raises
        passes on, and nothing is left.

        Raises:
            ObjectExistsError: Somebody created `key` before; what is there is unchanged.
            ConditionalCreateUnsupportedError: The file system has no hard links.
            StoreError: The folder cannot be written.
        """
        path = self._path(check_key(key))
        with self._refusals("write", path):
            # Only a shortcut that spares writing a large loser: the link below is what decides.
            if path.is_file():
                raise ObjectExistsError(f"{self.uri}/{key} is already there")
            _make_folders(path.parent)
        temporary = path.parent / f".{os.getpid()}-{secrets.token_hex(8)}"
        try:
            self._write_synced(temporary, chunks, path)
            with self._refusals("write", path):
                self._link(temporary, path, key)
        finally:
            with contextlib.suppress(*_NOT_A_FILE):
                temporary.unlink()
        with self._refusals("write", path):
            _sync_folder(path.parent)

    def remove(self, key: str) -> None:
        """Unlink `key` and make that survive a crash; nothing happens if there is no such object.

        What lies below the file system may keep the blocks: its snapshots, backups, a copy-on-write file
        system, a drive's spare cells. For what must be gone for good, use a folder without them, or one
        that is encrypted.

        Raises:
            StoreError: The folder cannot be written.
        """
        path = self._path(check_key(key))
        with self._refusals("remove", path), contextlib.suppress(*_NOT_A_FILE):
            path.unlink()
            _sync_folder(path.parent)

    def exists(self, key: str) -> bool:
        """Whether `key` is there.

        Raises:
            StoreError: The folder cannot be searched.
        """
        path = self._path(check_key(key))
        with self._refusals("read", path):
            return path.is_file()

    def size(self, key: str) -> int:
        """Bytes of `key`.

        Raises:
            ObjectMissingError: There is no such object.
            StoreError: The folder cannot be searched.
        """
        path = self._path(check_key(key))
        with self._refusals("read", path):
            try:
                status = path.stat()
            except _NOT_A_FILE:
                raise self._missing(key) from None
        if not stat.S_ISREG(status.st_mode):
            raise self._missing(key)
        return status.st_size

    def keys(self, prefix: str = "") -> list[str]:
        """Sorted keys, whole from the store's root, that lie below `prefix` at a slash.

        Raises:
            StoreError: A folder cannot be listed.
        """
        start = self._path(check_prefix(prefix))
        found: list[str] = []
        with self._refusals("list", start):
            for folder, folders, files in os.walk(start, onerror=_unless_missing):
                # Temporary files, lost+found and whatever else nobody created through a store.
                folders[:] = [name for name in folders if is_key(name)]
                below = folder.removeprefix(str(self._root)).lstrip("/")
                found += [
                    f"{below}/{name}" if below else name
                    for name in files
                    if is_key(name) and not os.path.islink(f"{folder}/{name}")  # noqa: PTH114  (a Path costs more)
                ]
        return sorted(found)

    def _path(self, key: str) -> Path:
        path = self._root / key
        part = str(self._root)
        with self._refusals("reach", path):
            # Nothing in a store is a symbolic link, so one is an accident or a way out of the root.
            for name in Path(key).parts:
                part = f"{part}/{name}"
                try:
                    linked = stat.S_ISLNK(os.lstat(part).st_mode)
                except _NOT_A_FILE:
                    break
                if linked:
                    raise StoreError(f"{part} is a symbolic link, which a store does not follow: remove it")
        return path

    def _link(self, temporary: Path, path: Path, key: str) -> None:
        try:
            os.link(temporary, path, follow_symlinks=False)
        except FileExistsError:
            if path.is_dir():
                raise StoreError(f"{path} is a folder of other objects: choose another key") from None
            raise ObjectExistsError(f"{self.uri}/{key} is already there") from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            raise ConditionalCreateUnsupportedError(
                f"{path.parent} cannot hold a store: its file system refuses hard links"
                f" ({os.strerror(error.errno)}), so two runs could overwrite each other; choose a folder on"
                " another file system"
            ) from error

    def _write_synced(self, temporary: Path, chunks: Iterable[bytes], path: Path) -> None:
        with self._refusals("write", path):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
        try:
            # Nothing of ours is around the iteration: an OSError of whoever makes the chunks is theirs.
            for chunk in chunks:
                with self._refusals("write", path):
                    write_whole(descriptor, chunk)
            with self._refusals("write", path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _missing(self, key: str) -> ObjectMissingError:
        return ObjectMissingError(f"{self.uri}/{key} is not there")

    @contextlib.contextmanager
    def _refusals(self, verb: str, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise StoreError(
                f"cannot {verb} {path}: {reason}; store {self.uri!r} needs a folder that this user can read"
                " and write: mend its permissions or name another"
            ) from error


def _make_folders(folder: Path) -> None:
    """`folder` and its missing parents, each closed to everybody but its owner (mkdir's `parents` is not)."""
    missing = [candidate for candidate in (folder, *folder.parents) if not candidate.exists()]
    for candidate in reversed(missing):
        candidate.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        _sync_folder(candidate.parent)


def write_whole(descriptor: int, chunk: bytes) -> None:
    """Write all of `chunk`: the system may take less at a time, and never more than 2 GiB."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a crash of the machine, as the content does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
