"""Sealing and summing take the same few megabytes whatever the size of the update."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks.seal_memory import measure


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size from /proc")
def test_an_update_passes_through_a_few_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    peaks = measure(2_000_000)
    # The sealed update has 16 MB and three of them 48 MB: whoever held one whole would show it.
    assert peaks["seal"] < 14
    assert peaks["aggregate"] < 14
