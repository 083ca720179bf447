"""Toy pipelines, compiled as Kubeflow wants them; kfp cannot read postponed annotations."""

from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import compiler, dsl

MODULES = ("kfp.dsl.executor_main", "numpy")
"""What a warm interpreter imports for these: its own list is for the steps of a round."""

BARE = {"base_image": "python:3.11", "install_kfp_package": False, "packages_to_install": []}


@dsl.component(**BARE)  # type: ignore[untyped-decorator]
def greet(name: str, letter: dsl.Output[dsl.Artifact]) -> NamedTuple(  # type: ignore[valid-type]
    "Greeting", [("text", str), ("size", int)]
):
    from pathlib import Path

    Path(letter.path).write_text(f"dear {name}")
    return (f"hello {name}", len(name))


@dsl.component(**BARE)  # type: ignore[untyped-decorator]
def look_around() -> str:
    import json
    import os
    import pathlib
    import sys
    import tempfile

    with tempfile.NamedTemporaryFile(delete=False) as left_behind:
        left_behind.write(b"left behind")
    environment = {name: value for name, value in os.environ.items() if name not in ("_", "PATH")}
    return json.dumps(
        {
            "environment": environment,
            "cwd": str(pathlib.Path.cwd()),
            "path": sys.path[:-1],
            "argv": sys.argv[3:],
            "stdin": sys.stdin.read(),
            "executable": sys.executable,
            "temporary": tempfile.gettempdir(),
            "session": os.getsid(0),
        }
    )


@dsl.component(**BARE)  # type: ignore[untyped-decorator]
def fail(lines: list, status: int):  # type: ignore[type-arg, no-untyped-def]
    import sys

    for line in lines:
        sys.stderr.write(f"{line}\n")
    sys.exit(status)


@dsl.component(**BARE)  # type: ignore[untyped-decorator]
def work(pid_file: str, seconds: float = 60.0) -> str:
    import os
    import pathlib
    import sys
    import time

    pathlib.Path(pid_file).write_text(str(os.getpid()))
    sys.stdout.write("crosscloud-progress: begun\n")
    deadline = time.monotonic() + seconds
    while not pathlib.Path(f"{pid_file}.seen").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    sys.stdout.write("crosscloud-progress: half way\n")
    while not pathlib.Path(f"{pid_file}.over").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return "done"


@dsl.component(**BARE)  # type: ignore[untyped-decorator]
def forget() -> str:
    import os

    os._exit(0)


@dsl.pipeline(name="greetings")  # type: ignore[untyped-decorator]
def greetings(name: str = "world") -> None:
    first = greet(name=name).set_display_name("greet · gcp").set_caching_options(False)
    greet(name=first.outputs["text"]).set_display_name("greet · aws").set_caching_options(False)


@dsl.pipeline(name="surroundings")  # type: ignore[untyped-decorator]
def surroundings() -> None:
    look_around().set_display_name("look").set_caching_options(False)


@dsl.pipeline(name="failing")  # type: ignore[untyped-decorator]
def failing(lines: list, status: int = 1) -> None:  # type: ignore[type-arg]
    before = greet(name="x").set_display_name("before")
    failed = fail(lines=lines, status=status).set_display_name("train · aws").after(before)
    greet(name="y").set_display_name("after").after(failed)


@dsl.pipeline(name="working")  # type: ignore[untyped-decorator]
def working(pid_file: str, seconds: float = 60.0) -> None:
    work(pid_file=pid_file, seconds=seconds).set_display_name("work")


@dsl.pipeline(name="forgetting")  # type: ignore[untyped-decorator]
def forgetting() -> None:
    greet(name=forget().set_display_name("forget").output).set_display_name("greet")


@pytest.fixture(scope="session")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled pipelines, in a folder whose name has spaces."""
    folder = tmp_path_factory.mktemp("compiled pipelines")
    for pipeline in (greetings, surroundings, failing, working, forgetting):
        compiler.Compiler().compile(pipeline, str(folder / f"{pipeline.name}.yaml"))
    return folder
