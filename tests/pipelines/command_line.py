"""The command called in the test's own process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from components.encryption.secret_keys.key_store import DEVELOPMENT
from pipelines.cli import main


@dataclass(frozen=True, kw_only=True)
class Said:
    """Exit code and output of a command.

    Attributes:
        code: that it exits with.
        out: its standard output.
        err: its standard error, without the line that says that secret keys are kept for development.
        for_development: whether that line was there, once.
    """

    code: int | str | None
    out: str
    err: str
    for_development: bool = False

    @property
    def complaints(self) -> list[str]:
        """Its lines on standard error, each ours."""
        lines = self.err.splitlines()
        assert all(line.startswith("crosscloud: ") for line in lines), self.err
        return [line.removeprefix("crosscloud: ") for line in lines]

    @property
    def lines(self) -> list[str]:
        """What a command that succeeded printed."""
        assert (self.code, self.err) == (0, "")
        return self.out.splitlines()


LOUD = f"crosscloud: key-holder: {DEVELOPMENT}\n"
Say = Callable[..., Said]


def say_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Calls the command's entry point."""

    def call(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["crosscloud", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        rest = err.replace(LOUD, "", 1)
        return Said(code=ended.value.code, out=out, err=rest, for_development=rest != err)

    return call
