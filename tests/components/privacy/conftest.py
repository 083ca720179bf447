"""The accountants' contract is rewritten by pytest like the tests that inherit it."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts.stores import Store, open_store
from tests.components.aggregation.three_sites import NOISE, ThreeSites

pytest.register_assert_rewrite("tests.components.privacy.accountant_contract")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A site's store."""
    return open_store(f"file://{tmp_path}/store")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh CROSSCLOUD_HOME."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    return tmp_path / "home"


@pytest.fixture
def three(home: Path) -> ThreeSites:
    """A first round that was opened."""
    return ThreeSites.start(protection="sealed", privacy=NOISE)
