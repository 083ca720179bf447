"""Runs what Jobs are to run: a container's command as a process of this machine, in its environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.jobs_api.controller import Controller
from tests.jobs_api.objects import Object

_GRACE_S = 5.0
_LOOK_S = 0.02


@dataclass
class ProcessRunner:
    """The nodes of a cluster; `server.controller.runner = ProcessRunner(...)`.

    Attributes:
        folder: for one file of output a Job: nothing that a Job prints is seen otherwise.
        mounts: folders of this machine by the path at which a pod has them. A value of the environment
            that holds such a path gets the folder's instead; the longest path counts.
        environment: added to that of the container, or put in its place.
        python: what runs `python3`.
    """

    folder: Path
    mounts: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    pids: dict[str, int] = field(default_factory=dict)
    """Process of each Job, by name."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, controller: Controller, job: Object) -> None:
        """One Job, from its pod's start to its end."""
        controller.pend(job)
        process = self._start(job)
        controller.run(job)
        seconds = job["spec"].get("activeDeadlineSeconds")
        deadline = time.monotonic() + seconds if seconds else float("inf")
        gone = controller.gone(job)
        while process.poll() is None:
            if gone.is_set():
                _stop(process)
                return
            if time.monotonic() > deadline:
                _stop(process)
                controller.expire(job)
                return
            time.sleep(_LOOK_S)
        code = process.returncode
        # As a shell and the kubelet count: 128 and the signal.
        controller.end(job, code if code >= 0 else 128 - code)

    def output(self, name: str) -> str:
        """What a Job has printed so far, of all its tries."""
        return self._log(name).read_text()

    def _start(self, job: Object) -> subprocess.Popen[bytes]:
        name = job["metadata"]["name"]
        container = job["spec"]["template"]["spec"]["containers"][0]
        command = [*container["command"], *container.get("args", ())]
        if command[0] == "python3":
            command[0] = self.python
        environment = machine_environment()
        for each in container.get("env", ()):
            environment[each["name"]] = self._on_this_machine(each["value"])
        environment |= self.environment
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log(name).open("ab") as log:
            # A group of its own, so that children of the step end with it; a folder that holds no package.
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        with self._lock:
            self.pids[name] = process.pid
        return process

    def _on_this_machine(self, value: str) -> str:
        for path in sorted(self.mounts, key=len, reverse=True):
            head, found, tail = value.partition(path)
            if found and head in {"", "file://"} and (not tail or tail.startswith("/")):
                return f"{head}{self.mounts[path]}{tail}"
        return value

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def machine_environment() -> dict[str, str]:
    """What belongs to this machine and not to a container: where programs lie, and its processor."""
    names = [name for name in os.environ if name == "PATH" or name.startswith("OPENBLAS_")]
    return {"PYTHONPATH": str(Path.cwd())} | {name: os.environ[name] for name in names}


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As the kubelet ends a container."""
    _signal(process, signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
