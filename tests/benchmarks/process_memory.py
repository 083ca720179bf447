"""Memory of a process and everything it started, as shares of physical pages."""

from __future__ import annotations

import re
import threading
from pathlib import Path


class PeakMemory:
    """Samples the proportional set size of a process tree while it is open; Linux only.

    Reading it walks page tables: four times a second would slow down what is measured.
    """

    def __init__(self, root: int, *, interval_s: float = 1.0) -> None:
        self.peak_mb = 0.0
        self._root, self._interval = root, interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(self._interval):
            self.peak_mb = max(self.peak_mb, sum(map(_pss_mb, _tree(self._root))))


def _tree(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # ended since it was listed
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    tree = {root}
    while grown := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= grown
    return tree


def _pss_mb(pid: int) -> float:
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
