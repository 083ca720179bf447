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


def check_records(
    table: pa.Table, *, text_columns: Sequence[str], label_column: str, classes: Sequence[str]
) -> None:
    """Checks the rows of an extraction: no NULL, every label one of `classes`, something to train on.

    Args:
        table: Columns `text_columns`, `label_column` and the boolean `is_test`.
        text_columns: Columns that the text template uses.
        label_column: Column that holds the class.
        classes: The federation's classes.

    Raises:
        BadDataError: A column is missing or of another type, there is no row, a value is NULL (in
            `is_test`: in the split column), a label is not in `classes`, or every row is a test row.
    """
    import pyarrow.compute as pc

    check_schema(
        table.schema, text_columns=text_columns, label_column=label_column, split_column=label_column
    )
    if IS_TEST not in table.column_names:
        raise BadDataError(
            f"the extraction has no column {IS_TEST!r}", disclosed="the extraction is incomplete"
        )
    if table.num_rows == 0:
        raise BadDataError(
            "the query returned no rows: look at its WHERE, and whether the table is filled",
            disclosed="the query returned no rows",
        )
    for name in [*text_columns, label_column, IS_TEST]:
        _check_nulls(table.column(name), name)
    _check_labels(table.column(label_column), label_column, classes)
    if pc.all(table.column(IS_TEST)).as_py():
        raise BadDataError(
            f"all {table.num_rows} rows are test rows: the split column needs more distinct values",
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


def _check_nulls(column: pa.ChunkedArray, name: str) -> None:
    if column.null_count == 0:
        return
    shown = "the split column" if name == IS_TEST else f"column {name!r}"
    raise BadDataError(
        f"{shown} is NULL in {column.null_count} of {len(column)} rows: it must not be; filter such rows "
        "out, or use COALESCE, in the site's sql",
        disclosed=f"{shown} is NULL in some rows",
    )


def _check_labels(column: pa.ChunkedArray, name: str, classes: Sequence[str]) -> None:
    import pyarrow.compute as pc

    known = frozenset(classes)
    counts = [(entry["values"], entry["counts"]) for entry in pc.value_counts(column).to_pylist()]
    unknown = sorted((label, count) for label, count in counts if label not in known)
    if not unknown:
        return
    label, count = unknown[0]
    shown = repr(label if len(label) <= _SHOWN_LENGTH else label[:_SHOWN_LENGTH] + "…")
    others = f", and {len(unknown) - 1} other labels" if len(unknown) > 1 else ""
    raise BadDataError(
        f"label {shown} in column {name!r} ({count} rows{others}) is not in task.classes, which has "
        f"{len(known)}: map it to one of them in the site's sql, or add it to the federation file",
        disclosed="a label is not in task.classes",
    )
