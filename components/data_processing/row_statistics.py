"""What a site remembers of one ingestion: counts and types, never a value of a row.

Counts are exact and of single rows, so they are as confidential as the rows: the document is kept in the
site's own store and in no other place, log lines included. It is counted batch by batch; batches may be cut
and ordered in any way and give the same document, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from components.artifacts.documents import canonical_json
from components.data_processing.declared_columns import TableField, column_of
from components.data_processing.query import IS_TEST
from components.errors import IntegrityError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT: Final = 1
MAX_DOCUMENT_BYTES: Final = 8 * 2**20
"""Of the document: BigQuery's 10,000 columns of 300 bytes, twice, with room to spare."""
_COUNTS = ("training_rows", "test_rows", "unlisted_rows")


@dataclass(frozen=True, kw_only=True)
class RowStatistics:
    """Statistics of one ingestion.

    Attributes:
        columns: BigQuery's type of every column of the table or query, by the warehouse's name for it.
        training_rows: rows to learn from.
        test_rows: rows to measure on.
        rows_by_class: rows of each of the federation's classes, those without any too.
        unlisted_rows: rows whose label is none of them; which labels these are is not kept.
        null_counts: rows with NULL, by declared column.
        format: version of this form.
    """

    columns: Mapping[str, str]
    training_rows: int
    test_rows: int
    rows_by_class: Mapping[str, int]
    unlisted_rows: int
    null_counts: Mapping[str, int]
    format: int = FORMAT

    @property
    def rows(self) -> int:
        """All rows."""
        return self.training_rows + self.test_rows

    def null_rate(self, column: str) -> Fraction:
        """Share of rows with NULL in a counted column, from 0 to 1, exactly; 0 where there are no rows."""
        return Fraction(self.null_counts[column], self.rows or 1)

    def to_json(self) -> bytes:
        """The canonical document: equal statistics, equal bytes."""
        return canonical_json(asdict(self))


class RowCounter:
    """Counts the rows of an ingestion, batch by batch, in memory that does not grow with them.

    Args:
        fields: Columns of the table or of the query's result, which are remembered by name and type.
        classes: The federation's classes.
        label_column: Column of the batches that holds the class, a string.
        counted: Columns of the batches whose NULLs are counted.
    """

    def __init__(
        self,
        fields: Sequence[TableField],
        *,
        classes: Sequence[str],
        label_column: str,
        counted: Sequence[str],
    ) -> None:
        self._columns = {field.name: field.type for field in fields}
        self._label_column = label_column
        self._rows_by_class = dict.fromkeys(classes, 0)
        self._null_counts = dict.fromkeys(counted, 0)
        self._rows = 0
        self._test_rows = 0
        self._unsplit_rows = 0

    def add(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Counts the rows of one batch with its label, the boolean `is_test` and the counted columns.

        Raises:
            BadDataError: One of these columns is missing.
        """
        import pyarrow.compute as pc

        is_test = column_of(batch, IS_TEST)
        self._unsplit_rows += is_test.null_count
        self._rows += batch.num_rows
        self._test_rows += pc.sum(is_test).as_py() or 0
        for name in self._null_counts:
            self._null_counts[name] += column_of(batch, name).null_count
        for entry in pc.value_counts(column_of(batch, self._label_column)).to_pylist():
            if entry["values"] in self._rows_by_class:
                self._rows_by_class[entry["values"]] += entry["counts"]

    def statistics(self) -> RowStatistics:
        """Of all rows so far, which keep the contract.

        Raises:
            ValueError: `is_test` is NULL in some rows, which the contract forbids.
        """
        if self._unsplit_rows:
            raise ValueError(f"{IS_TEST} is NULL in {self._unsplit_rows} rows: check the contract first")
        return RowStatistics(
            columns=dict(self._columns),
            training_rows=self._rows - self._test_rows,
            test_rows=self._test_rows,
            rows_by_class=dict(self._rows_by_class),
            unlisted_rows=self._rows - sum(self._rows_by_class.values()),
            null_counts=dict(self._null_counts),
        )


def read_statistics(document: bytes) -> RowStatistics:
    """The statistics that `RowStatistics.to_json` wrote.

    Raises:
        IntegrityError: The document was altered, or is of a version that this one does not know.
    """
    try:
        body = json.loads(document)
        statistics = RowStatistics(**body)
        problem = _form_problem(statistics) or ("" if statistics.to_json() == document else "not canonical")
    except (ValueError, TypeError, AttributeError, RecursionError):
        problem = "not in this form"
    if problem:
        raise IntegrityError(
            f"remembered statistics cannot be read ({problem}): they were altered, or are of another "
            "version; restore the site's store"
        )
    return statistics


def _form_problem(statistics: RowStatistics) -> str:
    """What no document of this version says; empty for one that holds together."""
    if statistics.format != FORMAT:
        return f"format {statistics.format!r}, this version knows {FORMAT}"
    if not all(type(kind) is str for kind in statistics.columns.values()):
        return "a type is not a word"
    counts: list[Any] = [getattr(statistics, name) for name in _COUNTS]
    counts += [*statistics.rows_by_class.values(), *statistics.null_counts.values()]
    if not all(type(count) is int and 0 <= count < 2**53 for count in counts):
        return "a count is not a whole number"
    listed = sum(statistics.rows_by_class.values())
    if listed + statistics.unlisted_rows != statistics.rows:
        return "the classes do not add up to all rows"
    if any(count > statistics.rows for count in statistics.null_counts.values()):
        return "more NULLs than rows"
    return ""
