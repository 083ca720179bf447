"""Sealing and summing take the same few megabytes whatever the size of the update; opening, a few copies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks.seal_memory import measure


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size from /proc")
@pytest.mark.parametrize("protection", ["sealed", "masked"])
def test_an_update_passes_through_a_few_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protection: str
) -> None:
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path))
    values = 4_000_000 if protection == "masked" else 2_000_000
    peaks = measure(values, protection)
    # The sealed update has 16 MB and three of them 48 MB: whoever held one whole would show it.
    assert peaks["seal"] < 14
    assert peaks["aggregate"] < 14
    # Beside the opened numbers, the integers that they were, 4 or 8 bytes each, no copy of either, TenSEAL
    assert peaks["open"] < (4 if protection == "masked" else 8) * values / 1e6 + 22
