"""Rows in the order of their contents, in bounded memory: an external merge sort (Knuth, TAOCP 3, 5.4).

Rows gather until they make a run; a run is sorted and put aside in small blocks, and the runs are merged
block by block. Rows that fit into one run never leave memory. What is put aside lies in the temporary folder
of the site's own machine, in a file without a name: it is gone with the process, killed or not.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

from components.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

RUN_BYTES = 32 << 20
# A merge holds one block of each run: 13 GB of records make 400 runs.
BLOCK_BYTES = 512 << 10


class RowSorter:
    """Takes rows in any order and gives them back sorted by all their columns, the first one first."""

    def __init__(
        self, schema: pa.Schema, *, run_bytes: int = RUN_BYTES, block_bytes: int = BLOCK_BYTES
    ) -> None:
        """Sorts rows of `schema`, whose columns hold values that Arrow and Python order alike.

        Args:
            schema: Of every batch; string and bool columns, without NULL.
            run_bytes: Rows that are held before they are put aside, about.
            block_bytes: Rows of one run that are held while runs are merged, about.
        """
        self._schema, self._run_bytes, self._block_bytes = schema, run_bytes, block_bytes
        self._gathered: list[pa.RecordBatch] = []
        self._gathered_bytes = 0
        self._runs: list[_Run] = []
        self._file: IO[bytes] | None = None

    def add(self, rows: pa.RecordBatch) -> None:
        """Takes rows; they may stay in the memory that they are in.

        Raises:
            StoreError: The temporary folder cannot hold them.
        """
        self._gathered.append(rows)
        self._gathered_bytes += rows.nbytes
        if self._gathered_bytes >= self._run_bytes:
            self._put_aside()

    def ordered(self) -> Iterator[pa.Table]:
        """All rows in pieces of one chunk each, once; one empty piece where there are no rows.

        Raises:
            StoreError: The temporary folder cannot hold them.
        """
        if not self._runs:
            yield self._gathered_in_order()
            return
        if self._gathered:
            self._put_aside()
        runs, self._runs = self._runs, []
        while runs:
            # Up to the least last row of the blocks that others follow, nothing is still to come.
            followed = [run.last for run in runs if run.goes_on]
            through = min(followed) if followed else None
            yield _in_order([run.take(through) for run in runs])
            runs = [run for run in runs if run.holds_rows]

    def close(self) -> None:
        """Gives memory and disk back."""
        self._gathered, self._runs = [], []
        if self._file is not None:
            self._file.close()

    def _gathered_in_order(self) -> pa.Table:
        import pyarrow as pa

        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        return _in_order([pa.Table.from_batches(gathered, self._schema)])

    def _put_aside(self) -> None:
        rows = self._gathered_in_order()
        rows_a_block = max(1, rows.num_rows * self._block_bytes // max(1, rows.nbytes))
        blocks = rows.to_batches(max_chunksize=rows_a_block)
        del rows
        with _temporary_folder():
            file = self._opened()
            file.seek(0, os.SEEK_END)
            places = []
            for block in blocks:
                start = file.tell()
                file.write(block.serialize())
                places.append((start, file.tell() - start))
        self._runs.append(_Run(places, self._read))

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="crosscloud-rows-")  # noqa: SIM115  (see close)
        return self._file

    def _read(self, place: tuple[int, int]) -> pa.RecordBatch:
        import pyarrow as pa

        start, size = place
        with _temporary_folder():
            file = self._opened()
            file.seek(start)
            content = file.read(size)
        return pa.ipc.read_record_batch(pa.py_buffer(content), self._schema)


class _Run:
    """What is still to be merged of a sorted run: the rest of a block, and where the blocks after it are."""

    def __init__(
        self, places: Sequence[tuple[int, int]], read: Callable[[tuple[int, int]], pa.RecordBatch]
    ) -> None:
        self._places, self._read = deque(places), read
        self._block: pa.RecordBatch | None = None

    @property
    def goes_on(self) -> bool:
        """Whether other blocks follow this one."""
        return len(self._places) > (self._block is None)

    @property
    def holds_rows(self) -> bool:
        return self._block is not None or bool(self._places)

    @property
    def last(self) -> tuple[str | bool, ...]:
        """The last row of this block."""
        block = self._loaded()
        return _row(block, block.num_rows - 1)

    def take(self, through: tuple[str | bool, ...] | None) -> pa.Table:
        """Takes the rows of this block up to and with the row `through`; all, if it is None."""
        import pyarrow as pa

        block = self._loaded()
        stop = block.num_rows
        if through is not None:
            stop = bisect.bisect_right(range(stop), through, key=lambda number: _row(block, number))
        self._block = block.slice(stop) if stop < block.num_rows else None
        return pa.Table.from_batches([block.slice(0, stop)])

    def _loaded(self) -> pa.RecordBatch:
        if self._block is None:
            self._block = self._read(self._places.popleft())
        return self._block


def _row(block: pa.RecordBatch, number: int) -> tuple[str | bool, ...]:
    """A row to be compared. Python orders strings as Arrow does: UTF-8 keeps the order of characters."""
    return tuple(column[number].as_py() for column in block.columns)


def _in_order(tables: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    rows = pa.concat_tables(tables).combine_chunks()
    return rows.sort_by([(name, "ascending") for name in rows.column_names]).combine_chunks()


@contextlib.contextmanager
def _temporary_folder() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"temporary folder {tempfile.gettempdir()} cannot hold the rows while they are sorted: "
            f"{error.strerror or type(error).__name__}; make room for the records, or set TMPDIR to another"
        ) from error
