from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts.stores import Store, open_store

TICKET = "exchange/rounds/00001-1/ticket.json"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh CROSSCLOUD_HOME."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_DEBUG", raising=False)
    return tmp_path / "home"


@pytest.fixture
def exchange(home: Path) -> Store:
    """The exchange of a round that has a ticket."""
    store = open_store("exchange")
    store.create("rounds/00001-1/ticket.json", b"{}")
    return store
