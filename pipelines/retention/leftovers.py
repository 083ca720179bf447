"""What killed processes and finished runs leave on this machine: drafts of stores, folders of runs."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from components.artifacts.erasing import Erased
from components.artifacts.stores import local_path
from components.errors import StoreError

_DRAFT = re.compile(r"\.[0-9]+-[0-9a-f]{16}")
_RUN = re.compile(r"([0-9]{8}T[0-9]{6})-[0-9a-f]{6}")
_LOG = "log.txt"
LIVING = timedelta(days=1)
"""For which a draft, or a run's folder without a log, may be somebody's who is still at work."""


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A file or a folder that may go."""

    path: Path
    size: int


def old_drafts(uri: str, *, now: datetime) -> list[Leftover]:
    """Files that a killed process was writing in a store of this machine; none where it is a bucket.

    Args:
        uri: of the store.
        now: with its time zone. A draft that was written to in the last day may still become an object.
    """
    if "://" in uri and not uri.startswith("file://"):
        return []
    found = [path for path in local_path(uri).rglob(".*") if _DRAFT.fullmatch(path.name)]
    return [each for path in found for each in _leftover(path, partial(_is_dead, path, now))]


def old_runs(folder: Path, *, keep_for: timedelta, now: datetime) -> list[Leftover]:
    """Folders of `crosscloud run` in which nothing runs any more.

    Args:
        folder: of all runs.
        keep_for: time since the run began, and since its log was written to.
        now: with its time zone.
    """
    runs = [path for path in sorted(folder.glob("*")) if _RUN.fullmatch(path.name) and not path.is_symlink()]
    return [each for path in runs for each in _leftover(path, partial(_is_over, path, keep_for, now))]


def old_scratch(home: Path, *, now: datetime) -> list[Leftover]:
    """Temporary folders of runs that were killed.

    Args:
        home: `CROSSCLOUD_HOME`, below which a run makes its own.
        now: with its time zone. One that was changed in the last day may be of a run that just begins.
    """
    folders = [path for path in sorted(home.glob("tmp-*")) if path.is_dir() and not path.is_symlink()]
    return [each for path in folders for each in _leftover(path, partial(_is_abandoned, path, now))]


def erase_leftovers(leftovers: Iterable[Leftover]) -> None:
    """Removes them.

    Raises:
        StoreError: one cannot be removed; those before it are.
    """
    for each in leftovers:
        try:
            if each.path.is_dir():
                shutil.rmtree(each.path)
            else:
                each.path.unlink(missing_ok=True)
        except FileNotFoundError:
            # Somebody else prunes too.
            continue
        except OSError as error:
            raise StoreError(f"cannot remove {each.path}: {error.strerror}; then prune again") from error


def counted(kind: str, leftovers: list[Leftover]) -> list[Erased]:
    """Their number and bytes; nothing where there are none."""
    if not leftovers:
        return []
    return [Erased(kind=kind, objects=len(leftovers), size=sum(each.size for each in leftovers))]


def _leftover(path: Path, is_old: Callable[[], bool]) -> Iterator[Leftover]:
    """The leftover, unless it is not old or went away meanwhile."""
    try:
        if is_old():
            files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
            yield Leftover(path=path, size=sum(each.lstat().st_size for each in files))
    except FileNotFoundError:
        return


def _is_dead(draft: Path, now: datetime) -> bool:
    return _changed(draft) <= now - LIVING


def _is_over(run: Path, keep_for: timedelta, now: datetime) -> bool:
    """Whether a run began long enough ago and no process holds its log."""
    begun = datetime.strptime(run.name.partition("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    log = run / _LOG
    if not log.is_file():
        return begun <= now - max(keep_for, LIVING)
    return max(begun, _changed(log)) <= now - keep_for and not _is_held(log)


def _is_abandoned(scratch: Path, now: datetime) -> bool:
    return _changed(scratch) <= now - LIVING and not _is_held(scratch)


def _is_held(path: Path) -> bool:
    """Whether the process of a run has it open, see `LocalRunner`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
