"""Records as texts: what a language model may read of the columns that a template names.

Columns that the federation declares have one text whatever the warehouse: STRUCT, ARRAY and JSON become
sentences of their parts, fractions lose the zeros that a type adds, and NULL, where it is declared to be
allowed, says nothing. Other columns are strings already, or numbers. Sensitive values are replaced last, so
that none hides in a part of a STRUCT or in a column of numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from components.data_processing.declared_columns import DeclaredColumn
from components.data_processing.query import IS_TEST, LABEL

if TYPE_CHECKING:
    import pyarrow as pa

_STRUCTURED = frozenset({"STRUCT", "ARRAY", "JSON"})
_FRACTIONS = frozenset({"FLOAT64", "NUMERIC", "BIGNUMERIC"})


class RecordTexts:
    """Makes canonical rows of the batches of an extraction, and counts what it masks.

    Args:
        columns: Of the template, as batches name them.
        label_column: With the class.
        declared: Columns that the federation declares; those that are not in the template do not matter.
        kinds: Of values to be masked; none for an empty list.
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        label_column: str,
        declared: Sequence[DeclaredColumn] = (),
        kinds: Sequence[str] = (),
    ) -> None:
        by_name = {column.name.lower(): column for column in declared}
        self._columns, self._label_column, self._kinds = tuple(columns), label_column, tuple(kinds)
        self._declared = {name: by_name[name.lower()] for name in columns if name.lower() in by_name}
        self._masked: Counter[str] = Counter(dict.fromkeys(kinds, 0))

    @property
    def plain_columns(self) -> tuple[str, ...]:
        """Columns that must hold strings, numbers or JSON text, as no declaration says otherwise."""
        return tuple(name for name in self._columns if self._type(name) not in _STRUCTURED)

    @property
    def masked(self) -> Mapping[str, int]:
        """Values that were masked so far, by kind."""
        return dict(self._masked)

    def check(self, schema: pa.Schema) -> None:
        """Whether texts can be made of what a query returns, before its rows are read.

        Args:
            schema: With all declared columns, each of its declared type.

        Raises:
            BadDataError: No text can be made of a column's type.
        """
        from components.data_processing.declared_columns import column_of

        nothing = schema.empty_table()
        for name, column in self._declared.items():
            if column.type in _STRUCTURED:
                self._text(name, column_of(nothing, name))

    def readable(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """`batch` with the text of declared columns in their place; others are as they were.

        Raises:
            BadDataError: A value is not JSON, or has no text.
        """
        import pyarrow.compute as pc

        for name, declared in self._declared.items():
            values = batch.column(name)
            if declared.type in _STRUCTURED | _FRACTIONS:
                values = self._text(name, values)
            elif declared.nullable and values.null_count:
                values = strings(values)
            if declared.nullable and values.null_count:
                values = pc.fill_null(values, "")
            batch = batch.set_column(batch.schema.get_field_index(name), name, values)
        return batch

    def canonical(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows in their canonical form, masked.

        Args:
            batch: What `readable` gave, without NULL.
        """
        import pyarrow as pa

        texts = [strings(batch.column(name)) for name in [*self._columns, self._label_column]]
        is_test = batch.column(IS_TEST).cast(pa.bool_())
        rows = pa.RecordBatch.from_arrays([*texts, is_test], schema=canonical_schema(self._columns))
        if not self._kinds:
            return rows
        from components.data_processing.masking.columns import mask_columns

        masked = mask_columns(rows, self._columns, self._kinds)
        self._masked.update(masked.counts)
        return masked.batch

    def _type(self, name: str) -> str:
        return self._declared[name].type if name in self._declared else ""

    def _text(self, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Array:
        from components.data_processing.structured_text import structured_text

        is_json = self._type(name) == "JSON"
        return structured_text(values, name=name, is_json=is_json).combine_chunks()


def canonical_schema(columns: Sequence[str]) -> pa.Schema:
    """Of a site's rows in their canonical form."""
    import pyarrow as pa

    return pa.schema({**dict.fromkeys([*columns, LABEL], pa.string()), IS_TEST: pa.bool_()})


def strings(column: pa.Array) -> pa.Array:
    """A column of strings, numbers or JSON text as plain strings."""
    import pyarrow as pa

    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    return column.cast(pa.string())
