"""Which objects a process creates and erases in stores of files, one after the other."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(kw_only=True)
class StoreHistory:
    """Objects below a folder in the order in which they came and went.

    Stores create by a hard link and erase by unlinking; Python tells its audit hooks of both. The
    content of what is erased is kept.
    """

    folder: Path
    events: list[tuple[str, Path]] = field(default_factory=list)
    erased: dict[Path, bytes] = field(default_factory=dict)

    def leave(self, count: int, home: Path) -> None:
        """Makes what was there after `count` events, in a home that is as it was before the first."""
        for kind, path in self.events[:count]:
            target = home / path
            if kind == "erased":
                target.unlink()
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            content = self.erased.get(path)
            target.write_bytes((self.folder / path).read_bytes() if content is None else content)

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called for everything that is audited."""
        if event not in {"os.link", "os.remove"}:
            return
        path = Path(os.fsdecode(arguments[1 if event == "os.link" else 0]))
        if not path.is_relative_to(self.folder) or path.name.startswith("."):
            return
        if event == "os.remove" and path.exists():
            self.erased[path.relative_to(self.folder)] = path.read_bytes()
            self.events.append(("erased", path.relative_to(self.folder)))
        if event == "os.link" and not path.exists():
            self.events.append(("created", path.relative_to(self.folder)))


_WATCHING: list[StoreHistory] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    for history in _WATCHING:
        history.note(event, arguments)


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[StoreHistory]:
    """What happens below the folder until the end of the block."""
    if not getattr(sys, "_crosscloud_hooked", False):
        # A hook stays for as long as the process; this one does nothing while nobody watches.
        sys.addaudithook(_hook)
        setattr(sys, "_crosscloud_hooked", True)  # noqa: B010
    history = StoreHistory(folder=folder)
    _WATCHING.append(history)
    try:
        yield history
    finally:
        _WATCHING.remove(history)
