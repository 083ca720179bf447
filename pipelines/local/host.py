"""The process that hosts `kfp.local`: imports kfp once, then runs each round that `LocalRunner` asks for.

It leads a process group that holds its steps and the warm interpreter. Requests and answers are JSON lines on
a socket; when the socket closes, whoever asked is gone, and the group ends at once.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import io
import json
import logging
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from components.execution.forking import fork
from pipelines.local.events import RunOutcome, StepEvent
from pipelines.local.observer import LineTap, RunObserver
from pipelines.local.process_group import end_group, remove_folders
from pipelines.local.tasks import Task, read_tasks


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the host is told when it starts.

    Attributes:
        channel: Descriptor of the socket to the caller.
        log: The log's path, as messages name it.
        scratch: TMPDIR of the steps, emptied after every run.
        folders: What to remove if the caller vanishes.
        warm_interpreter: The fork server's command, or nothing.
    """

    channel: int
    log: str
    scratch: str
    folders: Sequence[str]
    warm_interpreter: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One run: a compiled pipeline, its arguments and the empty folder for its outputs."""

    spec: str
    arguments: Mapping[str, Any]
    pipeline_root: str


def main() -> None:
    """Serves the channel named in the settings (a JSON argument) until it closes."""
    settings = Settings(**json.loads(sys.argv[1]))
    # Held, not used: the warm interpreter ends when the other end of its standard input closes.
    _lifeline = start_warm_interpreter(settings.warm_interpreter)
    # kfp replaces the text "python3" in every argument by sys.executable, unquoted: let that change nothing.
    sys.executable = "python3"
    warnings.filterwarnings("ignore", module=r"kfp(\.|$)")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a title need not exist in the locale's encoding
    channel = socket.socket(fileno=settings.channel)
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(channel, requests, settings.folders), daemon=True).start()
    sending = threading.Lock()

    def send(kind: str, content: Mapping[str, Any]) -> None:
        with sending:
            channel.sendall(json.dumps({kind: content}).encode() + b"\n")

    importlib.import_module("kfp.local")  # takes a second: better before the first request than after it

    while True:
        outcome = run(requests.get(), settings.log, lambda event: send("event", asdict(event)))
        empty(Path(settings.scratch))
        send("outcome", asdict(outcome))


def start_warm_interpreter(command: Sequence[str]) -> subprocess.Popen[bytes] | None:
    """Starts the fork server with the environment that the steps' executor will have."""
    if not command:
        return None
    environment = {**os.environ, "_KFP_RUNTIME": "true"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)  # noqa: S603  (our own command)


def listen(channel: socket.socket, requests: queue.SimpleQueue[Request], folders: Sequence[str]) -> None:
    """Queues what the caller asks for, and ends the process group when the caller has gone."""
    try:
        with channel.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                requests.put(Request(**json.loads(line)))
    finally:
        end_family([Path(folder) for folder in folders])


def end_family(folders: Sequence[Path]) -> None:
    """Ends this process and its group, and has a process outside the group remove `folders`."""
    group = os.getpgrp()
    try:
        if fork() == 0:
            os.setsid()
            end_group(group)
            remove_folders(folders)
            os._exit(0)
    except OSError:  # no process left to fork
        end_group(group)


@functools.lru_cache(maxsize=1)
def load(spec: str) -> tuple[dict[str, Task], Callable[..., object]]:
    """The tasks of a compiled pipeline and the callable that runs it; rounds share one pipeline."""
    from kfp import components

    return read_tasks(spec), components.load_component_from_text(spec)


def refusals() -> tuple[type[Exception], ...]:
    """What kfp raises for a pipeline, argument or output that it cannot use; anything else ends the host."""
    from google.protobuf.json_format import ParseError
    from kfp.dsl.types.type_utils import InconsistentTypeException

    return (
        InconsistentTypeException,
        ParseError,
        yaml.YAMLError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OSError,
    )


def run(request: Request, log: str, on_event: Callable[[StepEvent], None]) -> RunOutcome:
    """Runs one pipeline to its end; a pipeline that fails is an outcome, not an exception."""
    from kfp import local

    began = time.perf_counter()
    observer = RunObserver({}, on_event)
    tasks: Mapping[str, Task] = {}
    plain_print, plain_output = builtins.print, sys.stdout
    root = logging.getLogger()
    problem = ""
    try:
        tasks, pipeline = load(Path(request.spec).read_text(encoding="utf-8"))
        observer = RunObserver(tasks, on_event)
        sys.stdout = LineTap(plain_output, observer.read)
        root.addFilter(observer)
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=request.pipeline_root)
        pipeline(**request.arguments)
    except refusals() as error:
        if observer.failure is None:  # kfp's own trace says nothing about a step that failed
            traceback.print_exc()
        observer.abort()
        problem = f"{type(error).__name__}: {error}"
    finally:
        root.removeFilter(observer)
        # kfp indents what tasks print by replacing print, and leaves a replaced one behind after loops.
        builtins.print, sys.stdout = plain_print, plain_output
    error_type, message = describe(problem, observer, log)
    return RunOutcome(
        succeeded=not problem,
        error=message,
        error_type=error_type,
        seconds=time.perf_counter() - began,
        steps=observer.seconds,
        parameters=read_parameters(Path(request.pipeline_root), tasks),
    )


def describe(problem: str, observer: RunObserver, log: str) -> tuple[str, str]:
    """The error's class and one line for a person: from the step that failed, or else from kfp."""
    if not problem:
        return "", ""
    failure = observer.failure
    if failure is None:
        return "", f"{' '.join(problem.split()).rstrip('.')}; see {log}"
    return failure.error_type, failure.message or f"step {failure.title!r} failed; see {log}"


def read_parameters(pipeline_root: Path, tasks: Mapping[str, Task]) -> dict[str, dict[str, Any]]:
    """Output parameters of the tasks that ran below `pipeline_root`, by title."""
    found = {}
    for output in sorted(pipeline_root.glob("*/*/executor_output.json")):
        task = tasks.get(output.parent.name)
        parameters = json.loads(output.read_text(encoding="utf-8")).get("parameterValues", {})
        if task is not None and parameters:
            found[task.title] = parameters
    return found


def empty(folder: Path) -> None:
    """Removes what is in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, exist_ok=True)
