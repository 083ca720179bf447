"""Room on the disk: asked for before anything is computed, and told of where it runs out all the same."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from components.errors import UsageError

OUTCOME_BYTES: Final = 64 << 10
"""Of one outcome, at most about: most have a few kilobytes."""
REPORT_BYTES: Final = 64 << 20
"""Page, figures and `results.json`, twice, as each is written beside the one that it replaces."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MB: Final = 1_000_000


def require_room(folder: Path, needed: int) -> None:
    """Refuses to begin what could not be written to its end.

    Args:
        folder: where it is to be written; it need not exist yet.
        needed: bytes, estimated from above.

    Raises:
        UsageError: there is less room.
    """
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UsageError(
            f"{folder} has room for {free // _MB} MB and this comparison may need {-(-needed // _MB)} MB: "
            "make room there, or name another folder with --output"
        )


@contextlib.contextmanager
def telling_no_room(folder: Path) -> Iterator[None]:
    """Says in one line what to do where a write below `folder` finds no room.

    Raises:
        UsageError: there was none; what was finished before is kept, and the same command goes on.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
                raise UsageError(
                    f"no room is left in {folder}: make room there and type the same command again, which "
                    "goes on from here, or name another folder with --output"
                ) from error
            cause = cause.__cause__
        raise
