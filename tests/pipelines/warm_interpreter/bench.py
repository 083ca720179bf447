"""Kubeflow's executor as a pipeline's step starts it, plainly or through the fork server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipelines import warm_interpreter

EXECUTOR = "kfp.dsl.executor_main"
IS_WARM = "__import__('sys').modules.get('pipelines.warm_interpreter.server') is not None"


@dataclass
class Bench:
    """Runs components of one function, `step`, as Kubeflow's command line does."""

    folder: Path
    socket_path: Path
    environment: dict[str, str]
    server: subprocess.Popen[bytes] | None = None
    made: list[Path] = field(default_factory=list)

    def component(self, body: str) -> list[str]:
        """The interpreter's arguments that run a component with this body."""
        path = self.folder / "made" / f"component_{len(self.made)}.py"
        path.parent.mkdir(exist_ok=True)
        self.made.append(path)
        lines = textwrap.indent(textwrap.dedent(body).strip(), "    ")
        path.write_text(f"def step():\n{lines}\n", encoding="utf-8")
        outputs = {"outputs": {"outputFile": str(self.folder / "out" / "executor_output.json")}}
        return [
            "-m", EXECUTOR, "--component_module_path", str(path),
            "--executor_input", json.dumps(outputs), "--function_to_execute", "step",
        ]  # fmt: skip

    def shim(self) -> list[str]:
        """The command that stands in for `python3`."""
        return warm_interpreter.shim_command(sys.executable, self.socket_path)

    def start(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Starts a command in the bench's folder and environment, without input."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, within a minute."""
        process = self.start(command, environment)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def serve(self, modules: Sequence[str]) -> None:
        """Starts the fork server and waits until it listens."""
        self.server = subprocess.Popen(
            warm_interpreter.server_command(sys.executable, self.socket_path, modules),
            stdin=subprocess.PIPE,
            env=self.environment,
        )
        await_true(self.socket_path.exists)

    def close(self) -> None:
        """Lets the server go, as an owner that ends does."""
        if self.server is not None and self.server.stdin is not None:
            self.server.stdin.close()
            self.server.wait(10)


def await_true(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits until `condition` holds and fails the test if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def served_from(folder: Path, **variables: str) -> Iterator[Bench]:
    """A bench in an environment like that of a pipeline's step; its socket's path is short enough for one."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment = {**inherited, "_KFP_RUNTIME": "true", "PYTHONUNBUFFERED": "1", **variables}
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        bench = Bench(folder=folder, socket_path=Path(short) / "socket", environment=environment)
        yield bench
        bench.close()
