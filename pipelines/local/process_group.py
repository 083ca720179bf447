"""Ending a process together with everything it has started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path

PATIENCE = 2.0
"""Seconds to wait for killed processes to be gone; the kernel needs milliseconds."""


def end_group(group: int) -> None:
    """Kills every process of the process group `group`; there need be none."""
    # macOS answers EPERM where only processes that have ended already are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def remove_folders(folders: Iterable[Path]) -> None:
    """Removes what a killed group has left behind, even while the last of its processes still goes down."""
    deadline = time.monotonic() + PATIENCE
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
            shutil.rmtree(folder, ignore_errors=True)
