"""Wall time of a comparison over all its starts: a killed start has spent what it had spent."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path


class WallTime:
    """Seconds of this start, kept beside those of earlier ones that measured the same."""

    def __init__(self, folder: Path, measured_on: str, *, began: float) -> None:
        """Writes nothing yet.

        Args:
            folder: where starts are kept, one small file each.
            measured_on: what all starts that count together have in common, as a part of a file's name.
            began: when this start began, by `time.monotonic`.
        """
        self._folder, self._prefix = folder, measured_on[:16]
        self._began = began
        self._path = folder / f"{self._prefix}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.json"

    def keep(self) -> None:
        """Writes down how long this start has taken so far."""
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps({"seconds": round(time.monotonic() - self._began, 1)}))
        partial.replace(self._path)

    def total(self) -> float:
        """Seconds of all starts, as far as they were written down."""
        files = self._folder.glob(f"{self._prefix}-*.json")
        return float(sum(json.loads(path.read_bytes())["seconds"] for path in files))
