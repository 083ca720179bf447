"""Every test has a home of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.components.rounds.walks import FOUR, Walked, walk


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)


@pytest.fixture
def walked(home: None) -> Walked:
    """Four sites on the roster; delta was lost, the others are in the sum."""
    return walk("summed", "sealed", sites=FOUR, lost="delta")
