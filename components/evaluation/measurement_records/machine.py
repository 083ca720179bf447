"""What measurements were made on: a machine, and the versions of what computes."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Final

from components.evaluation.measurement_records.kept_outcomes import versions
from components.images import VERSION

_PACKAGES: Final = ("torch", "numpy", "tenseal", "transformers", "dp-accounting", "opacus")


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GiB and system."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def software() -> dict[str, str]:
    """Versions by name, of what is installed."""
    found = versions(_PACKAGES)
    told = {"crosscloud": VERSION, "python": platform.python_version()}
    return told | {package: number for package, number in found.items() if number}


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Its name as the system tells it; Linux has it in a file."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8", errors="replace").splitlines() if told.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
