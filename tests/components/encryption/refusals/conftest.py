"""Every stage of an honest attempt is walked once and then copied: a test starts where it attacks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.components.encryption.refusals.walk import STAGES, THREE, Walk, WalkTo


class WalkedStages:
    """Folders with a federation at each stage, made when they are asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._walks: dict[tuple[str, tuple[str, ...]], Walk] = {}

    def folder(self, stage: str, sites: tuple[str, ...]) -> tuple[Path, Walk]:
        home = self._root / f"{stage}-{len(sites)}"
        if (stage, sites) not in self._walks:
            self._walks[stage, sites] = self._walked(home, stage, sites)
        return home, self._walks[stage, sites]

    def _walked(self, home: Path, stage: str, sites: tuple[str, ...]) -> Walk:
        position = STAGES.index(stage)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CROSSCLOUD_HOME", str(home))
            if position == 0:
                return Walk.start(sites)
            before, walk = self.folder(STAGES[position - 1], sites)
            shutil.copytree(before, home)
            # The stage before may have been walked just now, in a folder of its own.
            patch.setenv("CROSSCLOUD_HOME", str(home))
            return walk.next(stage)


@pytest.fixture(scope="session")
def walked_stages(tmp_path_factory: pytest.TempPathFactory) -> WalkedStages:
    return WalkedStages(tmp_path_factory.mktemp("stages"))


@pytest.fixture
def walk_to(walked_stages: WalkedStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WalkTo:
    """An attempt of these sites at a stage, in a home of the test's own."""

    def walk(stage: str, sites: Sequence[str] = THREE) -> Walk:
        source, walked = walked_stages.folder(stage, tuple(sites))
        home = tmp_path / "home"
        shutil.copytree(source, home)
        monkeypatch.setenv("CROSSCLOUD_HOME", str(home))
        return walked

    return walk
