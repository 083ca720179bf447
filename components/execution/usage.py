"""What a step took, for the run's page in Kubeflow: peak memory and rows a second, where they may be told.

Under a charter with an epsilon neither may be: both depend on the site's rows, one more can carry either over
any threshold it is rounded to, and epsilon does not price that. Without one they are padded to powers of two,
as every size that leaves a site: with the seconds that the journal tells, rows a second are the number of
rows, and memory grows with them by 5 to 13 kB a row of 384 features.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from components.execution.padding import padded

HOST = "host"


def peak_memory(device: str) -> dict[str, int]:
    """The most bytes this process has held: by number of its GPU where it used one, else as `host`.

    Of a GPU it is what tensors took, without the driver's context; of the host, resident memory.

    Args:
        device: that was asked for; with `cpu` no GPU is looked at.
    """
    if device != "cpu" and "torch" in sys.modules:
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            every = {
                str(number): torch.cuda.max_memory_allocated(number)
                for number in range(torch.cuda.device_count())
            }
            if any(every.values()):
                return {number: taken for number, taken in every.items() if taken}
    return {HOST: _peak_resident()}


def usage(peaks: Mapping[str, int], *, rows: int, seconds: float, is_private: bool) -> dict[str, float]:
    """The metrics of a step that has computed something.

    Args:
        peaks: of `peak_memory`.
        rows: that were worked on, those of every pass.
        seconds: that it took, above 0.
        is_private: whether the charter has an epsilon.

    Returns:
        Each the least power of two that is not smaller: `peak_host_memory_bytes`, or `peak_gpu_memory_bytes`
        of the fullest GPU and `peak_gpu_memory_bytes_N` of each of several; `rows_per_second` unless there
        were none. Nothing under an epsilon.
    """
    if is_private:
        return {}
    where = "host" if HOST in peaks else "gpu"
    name, fullest = f"peak_{where}_memory_bytes", max(peaks.values())
    found = {name: fullest}
    if len(peaks) > 1:
        found |= {f"{name}_{number}": taken for number, taken in peaks.items()}
    if rows:
        found["rows_per_second"] = math.ceil(rows / seconds)
    return {name: float(padded(value)) for name, value in found.items()}


def _peak_resident() -> int:
    """Bytes; of Linux since this program began, while `getrusage` also counts the one that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    import resource

    # Kibibytes, but on macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
