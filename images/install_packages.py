"""Build stage of every image: puts the packages of one role into a virtual environment at /opt/crosscloud.

Reads constraints.txt and requirements.txt beside it, and these variables, the build arguments of a
Dockerfile: STORES, names of packages; EXTRA_PACKAGES, names of packages that are installed without what they
ask for; TORCH_INDEX, one more package index, for a build of torch. Wheels only: nothing is compiled. What
stays has no pip, no command besides the interpreter, and nothing that only those need who compile against a
package or test it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ENVIRONMENT = Path("/opt/crosscloud")
HERE = Path(__file__).parent
PYTHON = (3, 11)
"""What constraints.txt is made for, and where a Dockerfile puts our own code."""
TESTS_AND_HEADERS = ("**/tests", "**/include", "**/*.a", "torch/test", "torch/bin/*")
NEEDED = {"torch_shm_manager"}
"""Of torch/bin: what shares tensors between processes."""


def main() -> None:
    """Installs; ends with one line if the base has another Python, or if no line pins what was installed."""
    if sys.version_info[:2] != PYTHON:
        found = ".".join(map(str, sys.version_info[:2]))
        sys.exit(f"BASE must have Python 3.11 as python3, got {found}: choose another image for BASE")
    extra = os.environ.get("EXTRA_PACKAGES", "").split()
    make = [sys.executable, "-m", "venv", "--without-pip", str(ENVIRONMENT)]
    subprocess.run(make, check=True)  # noqa: S603  (this interpreter)
    if index := os.environ.get("TORCH_INDEX"):
        install("--extra-index-url", index, "torch")
    requirements = str(HERE / "requirements.txt")
    install("--requirement", requirements, *os.environ.get("STORES", "").split())
    # Kubeflow starts a step through kfp.dsl.executor_main, which imports nothing besides kfp itself. And what
    # carries a language model asks for libraries that no step imports.
    install("--no-deps", "kfp", *extra)
    # torch and spacy ask for setuptools, for the extensions that one could compile with them.
    pip("uninstall", "--quiet", "--yes", "setuptools")
    pins = (HERE / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if loose := unpinned(installed(), [*pins, *extra]):
        sys.exit(f"not pinned: {' '.join(loose)}: pin them in constraints.txt or in EXTRA_PACKAGES")
    for path in [*superfluous(ENVIRONMENT)]:
        remove(path)


def install(*arguments: str) -> None:
    """Installs into the new environment what the constraints pin."""
    constraints = ("--constraint", str(HERE / "constraints.txt"))
    pip("install", "--quiet", "--no-cache-dir", "--only-binary", ":all:", *constraints, *arguments)


def installed() -> dict[str, str]:
    """Versions by name of what the environment holds."""
    listed = json.loads(pip("list", "--format", "json"))
    return {package["name"]: package["version"] for package in listed}


def pip(command: str, *arguments: str) -> str:
    """Runs one command of the build stage's pip for the new environment and returns what it prints."""
    interpreter = str(ENVIRONMENT / "bin" / "python3")
    pip_for_it = [sys.executable, "-m", "pip", "--python", interpreter, "--disable-pip-version-check"]
    return subprocess.run(  # noqa: S603  (this interpreter)
        [*pip_for_it, command, *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def unpinned(versions: Mapping[str, str], pins: Iterable[str]) -> list[str]:
    """Those of `versions`, by name, that no line `name==version` pins; labels (+cpu) left aside."""
    pinned = {_pin(*line.split("==", 1)) for line in pins if "==" in line}
    return sorted(
        f"{name}=={version}" for name, version in versions.items() if _pin(name, version) not in pinned
    )


def superfluous(environment: Path) -> Iterator[Path]:
    """Commands, tests, headers and static libraries below `environment`; licences are none of them."""
    for command in (environment / "bin").iterdir():
        if not command.name.startswith("python"):
            yield command
    for packages in environment.glob("lib/python3*/site-packages"):
        for pattern in TESTS_AND_HEADERS:
            for path in packages.glob(pattern):
                if path.name not in NEEDED and "licenses" not in path.parts:
                    yield path


def remove(path: Path) -> None:
    """Removes a file or folder, which may have gone with a folder above it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _pin(name: str, version: str) -> tuple[str, str]:
    """A package's name as PEP 503 normalises it, and its version without a build's label."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower(), version.strip().partition("+")[0]


if __name__ == "__main__":
    main()
