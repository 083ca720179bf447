"""Shows that an image holds what its role needs, cannot import what it must not have, and is safe to run.

    docker run --rm --network none --read-only --tmpfs /tmp --tmpfs /work:uid=10001 IMAGE

runs it, as the image's own command. Reads role.json beside it. Prints one line, or one line a fault and ends
with 1. Reaches no network.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

HERE = Path(__file__).parent
BUILDS = ("ar", "as", "c++", "cc", "cmake", "g++", "gcc", "ld", "make", "pip", "pip3")
"""Commands by which something could be compiled or installed."""
STORES = ("adlfs", "gcsfs", "s3fs")
WRITABLE = ("CROSSCLOUD_HOME", "HOME", "TMPDIR")


def main() -> None:
    """Examines the image that this runs in."""
    began = time.perf_counter()
    role = json.loads((HERE / "role.json").read_text(encoding="utf-8"))
    # As the launcher of a step does: without it, kfp imports its compiler and client.
    os.environ["_KFP_RUNTIME"] = "true"
    faults = [*missing(role["modules"]), *present(role["absent"]), *commands(BUILDS), *writing(), *running()]
    if faults:
        sys.exit("\n".join(f"{role['role']}: {fault}" for fault in faults))
    stores = ", ".join(store for store in STORES if importlib.util.find_spec(store)) or "none"
    print(  # noqa: T201
        f"{role['role']}: in order: {len([*distributions()])} packages, stores {stores}, "
        f"{len(role['modules'])} modules imported, {len(role['absent'])} absent, "
        f"user {os.getuid()}, {time.perf_counter() - began:.1f} s"
    )


def missing(modules: Iterable[str]) -> list[str]:
    """Those that cannot be imported."""
    faults = []
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            faults.append(f"{module} cannot be imported: {type(error).__name__}: {error}")
    return faults


def present(modules: Iterable[str]) -> list[str]:
    """Those that could be imported."""
    return [f"{module} can be imported, and must not be here" for module in modules if importable(module)]


def importable(module: str) -> bool:
    """Whether there is such a module; it is not imported, only what it lies in."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def commands(names: Iterable[str]) -> list[str]:
    """Those that are on the path."""
    return [f"{found} must not be here" for name in names if (found := shutil.which(name))]


def writing() -> list[str]:
    """Where a step must be able to write and is not, and the other way round."""
    faults = []
    for name in WRITABLE:
        folder = os.environ.get(name, "")
        try:
            with tempfile.TemporaryFile(dir=folder or "/nowhere"):
                pass
        except OSError as error:
            faults.append(f"{name} is {folder!r}, where nothing can be written: {error.strerror}")
    if os.access(HERE, os.W_OK):
        faults.append(f"{HERE} can be written by who runs it")
    return faults


def running() -> list[str]:
    """What is wrong with who runs this."""
    return [] if os.getuid() and os.getgid() else ["it runs as root"]


if __name__ == "__main__":
    main()
