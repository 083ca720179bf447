"""Lines by which a running step tells how far it is; a local run shows them live."""

from __future__ import annotations

import sys

PROGRESS_PREFIX = "crosscloud-progress: "
LEFT_OUT = "left out: "


def tell(text: str) -> None:
    """Prints one line of progress. It may be read by anybody who reads the pod's log: no data."""
    print(f"{PROGRESS_PREFIX}{text}", file=sys.stderr, flush=True)  # noqa: T201
