"""Rows in one order, whether they fit into memory or are put aside on the way."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.record_ingestion.sorted_rows import RowSorter
from components.errors import StoreError

SCHEMA = pa.schema({"note": pa.string(), "label": pa.string(), "is_test": pa.bool_()})
Row = tuple[str, str, bool]
# Few different rows, so that equal ones lie in several runs and on both sides of a block's end.
Rows = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "ab", "é", "日", "\uffff", "\U0001f600"]) | st.text(max_size=2),
              st.sampled_from(["", "x"]), st.booleans()),
    max_size=60,
)  # fmt: skip


def batch(rows: list[Row]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA
    )


def in_order(rows: list[Row], *, size: int, run_bytes: int, block_bytes: int) -> list[Row]:
    """What a sorter makes of rows that come `size` at a time."""
    with contextlib.closing(RowSorter(SCHEMA, run_bytes=run_bytes, block_bytes=block_bytes)) as sorter:
        for start in range(0, len(rows), size):
            sorter.add(batch(rows[start : start + size]))
        pieces = list(sorter.ordered())
    assert pieces
    assert all(piece.schema == SCHEMA and len(piece.column(0).chunks) <= 1 for piece in pieces)
    return [(row["note"], row["label"], row["is_test"]) for piece in pieces for row in piece.to_pylist()]


@given(Rows, st.integers(1, 20), st.sampled_from([1, 40, 200, 1 << 30]), st.sampled_from([1, 30, 1 << 20]))
def test_the_order_is_pythons_whatever_is_put_aside(
    rows: list[Row], size: int, run_bytes: int, block_bytes: int
) -> None:
    assert in_order(rows, size=size, run_bytes=run_bytes, block_bytes=block_bytes) == sorted(rows)


def test_many_runs_of_many_blocks() -> None:
    rows = [(f"{number * 7919 % 5003:05d}", "xy"[number % 2], number % 3 == 0) for number in range(10_000)]
    assert in_order(rows, size=97, run_bytes=8_000, block_bytes=500) == sorted(rows)


def test_one_row_ten_thousand_times_is_merged_piece_by_piece() -> None:
    """Nothing can part equal rows, and yet no piece may hold them all."""
    sorter = RowSorter(SCHEMA, run_bytes=20_000, block_bytes=1_000)
    for _ in range(100):
        sorter.add(batch([("the same diagnosis", "x", False)] * 100))
    sizes = [piece.num_rows for piece in sorter.ordered()]
    sorter.close()
    assert sum(sizes) == 10_000
    assert max(sizes) < 1_000


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_what_is_put_aside_has_no_name_and_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gc.collect()
    before = open_descriptors()
    sorter = RowSorter(SCHEMA, run_bytes=1)
    for _ in range(5):
        sorter.add(batch([("a note", "x", False)] * 10))
    assert open_descriptors() == before + 1, "it is put aside, or this could not tell"
    assert list(tmp_path.rglob("*")) == []
    next(sorter.ordered())
    sorter.close()
    assert open_descriptors() == before


def test_a_small_site_touches_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    sorter = RowSorter(SCHEMA)
    for _ in range(30):
        sorter.add(batch([("a diagnosis of a hundred characters or so", "x", False)] * 100))
    assert [piece.num_rows for piece in sorter.ordered()] == [3000]


def test_a_temporary_folder_that_is_not_there_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    sorter = RowSorter(SCHEMA, run_bytes=1)
    with pytest.raises(StoreError, match="set TMPDIR to another") as caught:
        sorter.add(batch([("a note", "x", False)]))
    assert str(tmp_path / "gone") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_disk_that_is_full_is_told_in_one_line() -> None:
    """A limit on the size of files answers as a full disk does, when a write reaches it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sorter = RowSorter(SCHEMA, run_bytes=1)
    sorter.add(batch([("a note", "x", False)]))
    too_many = batch([("a note", "x", False)] * 10_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreError, match="cannot hold the rows while they are sorted: File too large"):
            sorter.add(too_many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sorter.close()
