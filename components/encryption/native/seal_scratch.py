"""SEAL's objects in and out: TenSEAL's bindings of SEAL load and save them by the name of a file alone.

The file lies in memory where the system has such files (Linux) and in the directory for temporary
files elsewhere. What passes through it under `sealed` are masked plaintexts and ciphertexts, which
say nothing to who has not the masks.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


class ScratchFile:
    """One file, written over and over, gone with the object.

    Attributes:
        path: Its name, for who can only open it by name.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("crosscloud", os.MFD_CLOEXEC)
            self.path, self._on_disk = f"/proc/self/fd/{self._descriptor}", False
        else:
            self._descriptor, self.path = tempfile.mkstemp(prefix="crosscloud-")
            self._on_disk = True

    def __del__(self) -> None:
        descriptor, self._descriptor = getattr(self, "_descriptor", -1), -1
        if descriptor < 0:
            return
        os.close(descriptor)
        if self._on_disk:
            Path(self.path).unlink()

    def put(self, content: bytes) -> str:
        """Make `content` what the file holds and return its name, to load from."""
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))
        return self.path

    def saved(self, save: Callable[[str], None]) -> bytes:
        """Return what `save` writes to the file whose name it is given."""
        save(self.path)
        return os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
