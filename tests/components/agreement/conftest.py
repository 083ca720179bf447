"""The contract's assertions are rewritten by pytest like those of the tests that inherit it."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts.stores import Store, open_store

pytest.register_assert_rewrite("tests.components.agreement.signed_form")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh CROSSCLOUD_HOME."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return tmp_path / "home"


@pytest.fixture
def exchange(home: Path) -> Store:
    """An empty exchange."""
    return open_store("exchange")
