"""A federation whose first round is open, and one whose first round is finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts.stores import open_store
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.rounds.walks import walk


@pytest.fixture
def three(home: Path) -> ThreeSites:
    return walk("open", "none").three


@pytest.fixture
def finished(home: Path) -> ThreeSites:
    """A round committed and reported."""
    three = walk("committed", "none").three
    open_store(three.state_uri).create("rounds/00001/report.json", b"{}")
    return three
