"""What a site's records must be before anything is computed from them.

A record that breaks the contract stops its site, and is never dropped or mended in silence: a site that
trains on other rows than it thinks is worse than one that sits a round out. Messages may quote values, and
are for the site's own people; `disclosed` names nothing but columns, which the federation file names too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.data_processing.query import IS_TEST
from components.errors import BadDataError

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_LENGTH = 80
_COUNTED_LABELS = 1000


def check_schema(
    schema: pa.Schema, *, text_columns: Sequence[str], label_column: str, split_column: str
) -> None:
    """Checks what the site's query returns, before its rows are read.

    Text columns hold strings, numbers or JSON text; the label holds strings; the split column holds
    strings, integers or dates, whose text is the same in every engine, so that the split is too.
    Names are compared without case, as SQL does.

    Raises:
        BadDataError: A column is missing or of another type.
    """
    import pyarrow as pa

    types = {field.name.lower(): field.type for field in schema}
    wanted = dict.fromkeys([*text_columns, label_column, split_column])
    missing = [name for name in wanted if name.lower() not in types]
    if missing:
        names = ", ".join(map(repr, missing))
        raise BadDataError(
            f"the query returns no column {names} (it returns {', '.join(schema.names)}): "
            "select it, or rename one with AS, in the site's sql",
            disclosed=f"the query returns no column {names}",
        )
    for name in text_columns:
        kind = types[name.lower()]
        if not (is_text(kind) or is_number(kind)):
            raise _wrong_type(name, kind, "a text column must hold strings, numbers or JSON")
    if not is_text(types[label_column.lower()]):
        raise _wrong_type(label_column, types[label_column.lower()], "the label must hold strings")
    kind = types[split_column.lower()]
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_date(kind)):
        raise _wrong_type(split_column, kind, "the split column must hold strings, integers or dates")


class RecordCheck:
    """Checks the rows of an extraction as they come: no NULL, every label a class, something to train on.

    Holds counts and one label, however many rows there are. Faults are told at the end, with their number.
    """

    def __init__(self, *, text_columns: Sequence[str], label_column: str, classes: Sequence[str]) -> None:
        """Expects batches with columns `text_columns`, `label_column` and the boolean `is_test`."""
        self._text_columns, self._label_column = tuple(text_columns), label_column
        self._nulls = dict.fromkeys([*text_columns, label_column, IS_TEST], 0)
        self._labels = _UnknownLabels(label_column, classes)
        self._rows = 0
        self._has_training_rows = False

    @property
    def broken(self) -> bool:
        """Whether `conclude` will raise, whatever rows are still to come."""
        return any(self._nulls.values()) or self._labels.found

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts what `conclude` needs to know of these rows; there may be none.

        Raises:
            BadDataError: A column is missing or of another type.
        """
        import pyarrow.compute as pc

        label_column = self._label_column
        check_schema(
            batch.schema,
            text_columns=self._text_columns,
            label_column=label_column,
            split_column=label_column,
        )
        if IS_TEST not in batch.schema.names:
            raise BadDataError(
                f"the extraction has no column {IS_TEST!r}", disclosed="the extraction is incomplete"
            )
        self._rows += batch.num_rows
        for name in self._nulls:
            self._nulls[name] += batch.column(name).null_count
        self._labels.add(batch.column(label_column))
        self._has_training_rows |= not pc.all(batch.column(IS_TEST), min_count=0).as_py()

    def conclude(self, *, training_rows_required: bool = True) -> None:
        """Tells what is wrong with all the rows together.

        Args:
            training_rows_required: Whether having no rows, or test rows only, is a fault.

        Raises:
            BadDataError: There is no row, a value is NULL (in `is_test`: in the split column), a label is not
                one of the classes, or every row is a test row.
        """
        if self._rows == 0 and training_rows_required:
            raise BadDataError(
                "the query returned no rows: look at its WHERE, and whether the table is filled",
                disclosed="the query returned no rows",
            )
        for name, count in self._nulls.items():
            if count:
                raise _null(name, count, self._rows)
        self._labels.conclude()
        if not self._has_training_rows and training_rows_required:
            raise BadDataError(
                f"all {self._rows} rows are test rows: the split column needs more distinct values",
                disclosed="there are no training rows",
            )


def is_text(kind: pa.DataType) -> bool:
    """Whether Arrow type `kind` holds strings: plain, dictionary-encoded (an enum) or JSON text."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether Arrow type `kind` holds integers, floats or decimals."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _wrong_type(name: str, kind: pa.DataType, rule: str) -> BadDataError:
    return BadDataError(
        f"column {name!r} is of type {kind}: {rule}; CAST it in the site's sql",
        disclosed=f"column {name!r} has the wrong type",
    )


def _null(name: str, count: int, rows: int) -> BadDataError:
    shown = "the split column" if name == IS_TEST else f"column {name!r}"
    return BadDataError(
        f"{shown} is NULL in {count} of {rows} rows: it must not be; filter such rows "
        "out, or use COALESCE, in the site's sql",
        disclosed=f"{shown} is NULL in some rows",
    )


class _UnknownLabels:
    """The first label in their order that is no class, how often it occurs, and how many others there are."""

    def __init__(self, column: str, classes: Sequence[str]) -> None:
        self._column, self._known = column, frozenset(classes)
        self._first: str | None = None
        self._count = 0
        # Hashes, since a column of notes may stand where the label should.
        self._distinct: set[int] = set()

    @property
    def found(self) -> bool:
        return self._first is not None

    def add(self, labels: pa.Array) -> None:
        """NULLs are counted elsewhere."""
        import pyarrow.compute as pc

        for entry in pc.value_counts(labels).to_pylist():
            label = entry["values"]
            if label is None or label in self._known:
                continue
            if len(self._distinct) < _COUNTED_LABELS + 2:
                self._distinct.add(hash(label))
            # One that comes before all that were seen has not been seen, so its count is whole.
            if self._first is None or label < self._first:
                self._first, self._count = label, 0
            if label == self._first:
                self._count += entry["counts"]

    def conclude(self) -> None:
        if self._first is None:
            return
        shown = repr(self._first if len(self._first) <= _SHOWN_LENGTH else self._first[:_SHOWN_LENGTH] + "…")
        others = len(self._distinct) - 1
        counted = str(others) if others <= _COUNTED_LABELS else f"more than {_COUNTED_LABELS}"
        named = f", and {counted} other labels" if others else ""
        raise BadDataError(
            f"label {shown} in column {self._column!r} ({self._count} rows{named}) is not in task.classes, "
            f"which has {len(self._known)}: map it to one of them in the site's sql, or add it to the "
            "federation file",
            disclosed="a label is not in task.classes",
        )
