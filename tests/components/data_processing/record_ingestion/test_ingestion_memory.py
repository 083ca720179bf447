"""Ingestion takes the same memory whatever the number of rows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks.ingest import measure, write_warehouse


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size from /proc")
def test_rows_pass_through_memory_that_does_not_grow_with_them(tmp_path: Path) -> None:
    peaks = []
    for rows in (300_000, 900_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        write_warehouse(folder / "warehouse.duckdb", rows)
        found = measure("DuckDB", folder / "warehouse.duckdb", folder)
        assert found["rows"] == rows
        assert found["shards"] >= rows * 180 // (32 << 20)
        peaks.append(found["peak_mb"])
        assert {path.name for path in folder.iterdir()} == {"warehouse.duckdb", "store"}
    assert peaks[1] < 600
    # 600,000 rows have 90 MB of text, and whoever held them and sorted them would need them twice or more;
    # DuckDB keeps what it has read of the file, some 45 MB, until it has 256 MB.
    assert peaks[1] - peaks[0] < 60
