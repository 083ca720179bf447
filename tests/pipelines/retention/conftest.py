"""Federations after some rounds, made once and copied."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SmallFederation
from tests.pipelines.command_line import Say, say_here
from tests.pipelines.conftest import copied
from tests.pipelines.round_in_process import RoundInProcess

AfterRounds = Callable[[int], SmallFederation]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return say_here(monkeypatch, capsys)


@pytest.fixture(scope="module")
def walked() -> dict[int, SmallFederation]:
    """Federations by the number of their rounds, made once. To be copied only."""
    return {}


@pytest.fixture
def after_rounds(
    small_federation: Callable[..., SmallFederation],
    walked: dict[int, SmallFederation],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> AfterRounds:
    """A federation after some rounds in process, to be changed; CROSSCLOUD_HOME is its home."""

    def walk(rounds: int) -> SmallFederation:
        if rounds not in walked:
            before = walk(rounds - 1) if rounds else small_federation([20, 21, 22])
            made = copied(before, tmp_path_factory.mktemp("walked") / str(rounds))
            monkeypatch.setenv("CROSSCLOUD_HOME", str(made.home))
            if rounds:
                RoundInProcess(made).finish()
            walked[rounds] = made
        return walked[rounds]

    def made(rounds: int) -> SmallFederation:
        federation = copied(walk(rounds), tmp_path / "walked")
        monkeypatch.setenv("CROSSCLOUD_HOME", str(federation.home))
        return federation

    return made
