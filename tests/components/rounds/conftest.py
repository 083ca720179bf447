"""Rounds are walked by the steps themselves; see walks.py."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh CROSSCLOUD_HOME."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    for name in ("CROSSCLOUD_KEYS", "CROSSCLOUD_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"
