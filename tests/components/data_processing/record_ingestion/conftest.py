"""Three sites in an open round without a seal, each of which may read the visits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.components.aggregation.three_sites import ThreeSites
from tests.components.data_processing.record_ingestion.visits import SPEC, admit, fill
from tests.components.rounds.walks import walk


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThreeSites:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CROSSCLOUD_KEYS", raising=False)
    three = walk("open", "none").three
    fill(100)
    admit(three, SPEC.sql)
    return three
