"""The `python3` that steps find, run by a real shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipelines.local.interpreter import search_path, write_interpreter


def test_arguments_and_paths_with_spaces_and_quotes_arrive_unchanged(tmp_path: Path) -> None:
    interpreter = tmp_path / "it's an interpreter"
    interpreter.symlink_to("/bin/echo")
    folder = tmp_path / "a folder" / "bin"
    write_interpreter(folder, [str(interpreter), "-I", "two words"])

    path = search_path(folder, Path(sys.executable), os.environ["PATH"])
    command = ["/bin/sh", "-c", 'python3 "$@"', "sh", "-m", "a  b", "$HOME", "*", "'"]
    output = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=True).stdout

    assert output == "-I two words -m a  b $HOME * '\n"


def test_without_that_folder_the_interpreter_s_own_comes_next(tmp_path: Path) -> None:
    write_interpreter(tmp_path, ["/bin/false"])
    (tmp_path / "python3").chmod(0o600)  # as on a file system that runs no programs
    path = search_path(tmp_path, Path(sys.executable), "")

    output = subprocess.run(
        ["/bin/sh", "-c", "python3 -c 'import sys; print(sys.prefix)'"],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert output.strip() == sys.prefix
