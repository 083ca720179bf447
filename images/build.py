"""Builds the image of every role, runs its smoke command, and holds its size to the role's limit.

    python images/build.py [ROLE...]

Variables, all optional: BASE and SITE_BASE, the images that are built upon; STORES, EXTRA_PACKAGES,
TORCH_INDEX, PIP_INDEX_URL and PIP_EXTRA_INDEX_URL, the build arguments of the Dockerfiles; SITE_LIMIT_MB, for
a site's image with CUDA, in place of the limit that is meant for CPUs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from components import images

HERE = Path(__file__).parent
NAMES = {
    "site": images.SITE,
    "aggregator": images.AGGREGATOR,
    "key-holder": images.KEY_HOLDER,
    "comparison": images.COMPARISON,
}
COMPUTING = ("site", "comparison")
"""Roles with torch, which are built upon SITE_BASE."""
WITH_TORCH = ("TORCH_INDEX", "EXTRA_PACKAGES")
OF_ALL = ("STORES", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
# As a site's template of a Job has it: no network is needed, and only /work and /tmp can be written.
CONFINED = (
    *("--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--tmpfs", f"/work:uid={images.USER},gid={images.USER},mode=0700", "--tmpfs", "/tmp"),  # noqa: S108
)
MB = 1_000_000


def main(roles: list[str]) -> None:
    """Builds, examines and measures; ends with one line a fault."""
    if strange := set(roles) - set(NAMES):
        sys.exit(f"{', '.join(sorted(strange))}: no such role; the roles are {', '.join(NAMES)}")
    if run("docker", "version").returncode:
        sys.exit("no Docker engine answers: start one, or set DOCKER_HOST to where one listens")
    faults = [fault for role in roles or NAMES for fault in build(role)]
    if faults:
        sys.exit("\n".join(faults))


def build(role: str) -> list[str]:
    """Builds one image and says what is wrong with it."""
    began = time.perf_counter()
    dockerfile = HERE / role / "Dockerfile"
    base = chosen_base(role, dockerfile.read_text(encoding="utf-8"))
    given = {name: os.environ[name] for name in arguments(role) if os.environ.get(name)}
    passed = [part for name in given for part in ("--build-arg", name)]
    # pip reaches an index as this machine does, and Docker's own output is of interest if something fails.
    build_it = ["docker", "build", "--network", "host", "--build-arg", f"BASE={base}", *passed]
    done = run(*build_it, "--tag", NAMES[role], "--file", str(dockerfile), str(HERE.parent))
    if done.returncode:
        return [f"{done.stdout}\n{role}: the image cannot be built (exit status {done.returncode})"]
    smoke = run("docker", "run", "--rm", *CONFINED, NAMES[role])
    print(smoke.stdout.strip(), flush=True)  # noqa: T201
    added, limit = size(NAMES[role]) - size(base), limit_of(role)
    print(  # noqa: T201
        f"{NAMES[role]}: {added / MB:.0f} MB added to {base}, of {limit / MB:.0f} MB allowed; "
        f"{time.perf_counter() - began:.0f} s",
        flush=True,
    )
    faults = [f"{role}: the smoke command fails (exit status {smoke.returncode})"] if smoke.returncode else []
    if added > limit:
        faults.append(
            f"{role}: {added / MB:.0f} MB added to {base} are more than {limit / MB:.0f} MB: take packages "
            f"out of images/{role}/requirements.txt, or choose fewer STORES, or torch for CPUs by TORCH_INDEX"
        )
    return faults


def arguments(role: str) -> tuple[str, ...]:
    """Build arguments that are handed on to a role's Dockerfile, besides BASE."""
    return (*OF_ALL, *WITH_TORCH) if role in COMPUTING else OF_ALL


def chosen_base(role: str, dockerfile: str) -> str:
    """The image that a role's is built upon: from the environment, else as the Dockerfile has it."""
    of_role = os.environ.get("SITE_BASE") if role in COMPUTING else None
    declared = re.search(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE)
    if declared is None:
        raise ValueError(f"{role}: its Dockerfile must declare ARG BASE=…")
    return of_role or os.environ.get("BASE") or declared[1]


def limit_of(role: str) -> int:
    """Bytes that an image may add to its base."""
    chosen = os.environ.get("SITE_LIMIT_MB") if role in COMPUTING else None
    told = json.loads((HERE / role / "role.json").read_text(encoding="utf-8"))
    return int(chosen or told["limit_mb"]) * MB


def size(image: str) -> int:
    """Bytes of an image's layers."""
    return int(run("docker", "image", "inspect", "--format", "{{.Size}}", image).stdout)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command; what it prints, errors too, is kept."""
    return subprocess.run(  # noqa: S603  (docker, with arguments of our own)
        command, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


if __name__ == "__main__":
    main(sys.argv[1:])
