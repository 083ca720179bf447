"""The columns that a federation declares, and what a site's table and rows must be to keep them.

The types are BigQuery's words whatever the warehouse, so that one declaration binds all sites. A schema is
checked before anything is billed: of a table from `tables.get`, of a query from its dry run, of DuckDB and
Parquet from an Arrow schema without rows. What only rows can show (NULL, values outside a list) is counted
batch by batch, in memory that does not grow with the rows.

A `Problem` says two things: `message` is for the site's own people and may quote a value; `disclosed` is what
the other parties may read, and names nothing but columns, which the federation file names too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from components.data_processing.template import COLUMN_NAME
from components.errors import BadDataError

if TYPE_CHECKING:
    import pyarrow as pa

TYPES: Final = (
    "STRING",
    "BYTES",
    "INT64",
    "FLOAT64",
    "NUMERIC",
    "BIGNUMERIC",
    "BOOL",
    "DATE",
    "DATETIME",
    "TIME",
    "TIMESTAMP",
    "INTERVAL",
    "JSON",
    "GEOGRAPHY",
    "STRUCT",
    "ARRAY",
)
"""What a column may be declared as; ARRAY is any column of mode REPEATED."""
_OTHER_NAMES = {
    "INT64": "INTEGER INT SMALLINT BIGINT TINYINT BYTEINT",
    "FLOAT64": "FLOAT",
    "BOOL": "BOOLEAN",
    "NUMERIC": "DECIMAL",
    "BIGNUMERIC": "BIGDECIMAL",
    "STRUCT": "RECORD",
}
_ALIASES = {name: word for word, names in _OTHER_NAMES.items() for name in names.split()}
# Every NUMERIC is a BIGNUMERIC; DuckDB hands JSON over as strings, whose rows are then checked to be JSON.
_ALSO_ACCEPTED = {"BIGNUMERIC": ("NUMERIC",), "JSON": ("STRING",)}
_MODES = ("NULLABLE", "REQUIRED", "REPEATED")
# By the first word of what Arrow calls a type; uint64 reaches beyond INT64.
_ARROW_NAMES = {
    "STRING": "string large_string string_view",
    "BYTES": "binary large_binary binary_view fixed_size_binary",
    "INT64": "int8 int16 int32 int64 uint8 uint16 uint32",
    "NUMERIC": "uint64",
    "FLOAT64": "halffloat float double",
    "BOOL": "bool",
    "DATE": "date32 date64",
    "TIME": "time32 time64",
    "INTERVAL": "month_day_nano_interval duration",
    "STRUCT": "struct",
    "ARRAY": "list large_list fixed_size_list list_view large_list_view map",
}
_FROM_ARROW = {name: word for word, names in _ARROW_NAMES.items() for name in names.split()}
_SHOWN_LENGTH, _SHOWN_NAMES = 80, 20


@dataclass(frozen=True, kw_only=True)
class DeclaredColumn:
    """One column that every site's query must return.

    Attributes:
        name: a plain column name; compared without case, as SQL does.
        type: one of `TYPES`.
        nullable: whether a row may have NULL in it.
        description: what it holds, for people.
        allowed_values: the only values a STRING may have beside NULL; empty for any.
    """

    name: str
    type: str
    nullable: bool = True
    description: str = ""
    allowed_values: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Every rule that the declaration itself breaks, one a line; empty for one that can be checked."""
        found = []
        if not COLUMN_NAME.fullmatch(self.name):
            found.append(f"column {self.name!r} is not a plain name: use letters, digits and _")
        if self.type not in TYPES:
            found.append(f"column {self.name!r} has type {self.type!r}: {_type_mend(self.type)}")
        if self.allowed_values and self.type != "STRING":
            found.append(
                f"column {self.name!r} is {self.type} and lists allowed values: only STRING may have them"
            )
        twice = [value for value, times in sorted(Counter(self.allowed_values).items()) if times > 1]
        if twice:
            found.append(f"column {self.name!r} allows {_shown(twice[0])} twice: write it once")
        return found


class TableField(NamedTuple):
    """A column as a warehouse describes it.

    Attributes:
        name: as the warehouse spells it.
        type: BigQuery's word, or Arrow's where BigQuery has none.
        mode: `NULLABLE`, `REQUIRED` or `REPEATED`; "" where the warehouse does not say whether it may hold
            NULL, and only its rows will.
    """

    name: str
    type: str
    mode: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One way in which a site does not keep the declaration.

    Attributes:
        message: value, rule and mend in one line, for the site's own people.
        disclosed: what other parties may read.
    """

    message: str
    disclosed: str


def check_declarations(columns: Sequence[DeclaredColumn]) -> list[str]:
    """What is wrong with the columns that a federation declares, one line each."""
    problems = [problem for column in columns for problem in column.problems()]
    names = [column.name.lower() for column in columns]
    problems += [
        f"column {column.name!r} is declared twice (names are compared without case): keep one"
        for position, column in enumerate(columns)
        if column.name.lower() in names[:position]
    ]
    return problems


def bigquery_fields(schema: Iterable[tuple[str, str, str]], *, of_query: bool) -> list[TableField]:
    """Fields from BigQuery's (name, type, mode), whose REST interface still says INTEGER, FLOAT and RECORD.

    Args:
        schema: Top-level columns of `tables.get` or of a dry run.
        of_query: Whether they are a query's result. BigQuery says NULLABLE of those, whatever the tables
            below say, so it is not held against them.

    Raises:
        ValueError: A mode that BigQuery does not have.
    """
    fields = []
    for name, kind, stated in schema:
        mode = stated.upper() or "NULLABLE"
        if mode not in _MODES:
            raise ValueError(f"column {name!r} has mode {stated!r}: BigQuery has {', '.join(_MODES)}")
        word = "ARRAY" if mode == "REPEATED" else _ALIASES.get(kind.upper(), kind.upper())
        fields.append(TableField(name, word, "" if of_query and mode == "NULLABLE" else mode))
    return fields


def arrow_fields(schema: pa.Schema) -> list[TableField]:
    """Fields from an Arrow schema: of DuckDB, of Parquet, or of BigQuery's own streams.

    Arrow calls a field nullable unless told otherwise, which says nothing; a field that is not is REQUIRED.
    """
    fields = []
    for field in schema:
        kind = _marked_type(field)
        required = "" if field.nullable else "REQUIRED"
        fields.append(TableField(field.name, kind, "REPEATED" if kind == "ARRAY" else required))
    return fields


def arrow_type(kind: pa.DataType) -> str:
    """BigQuery's word for Arrow type `kind`; Arrow's own where BigQuery has none (unions, 77 digits).

    Integers of all sizes are INT64, but for uint64, which is NUMERIC. A decimal is the smaller of
    NUMERIC (29 digits before the point, 9 behind) and BIGNUMERIC (38 and 38) that holds it. A timestamp with
    a zone is a TIMESTAMP, one without a DATETIME. Maps are ARRAYs, which is how BigQuery stores them.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return arrow_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        words = {"arrow.json": "JSON", "arrow.uuid": "STRING"}
        return words.get(kind.extension_name) or arrow_type(kind.storage_type)
    if pa.types.is_decimal(kind):
        before = kind.precision - kind.scale
        if before <= 29 and kind.scale <= 9:
            return "NUMERIC"
        return "BIGNUMERIC" if before <= 38 and kind.scale <= 38 else str(kind)
    if pa.types.is_timestamp(kind):
        return "DATETIME" if kind.tz is None else "TIMESTAMP"
    return _FROM_ARROW.get(re.split(r"\W", str(kind), maxsplit=1)[0], str(kind))


def check_declared(columns: Sequence[DeclaredColumn], fields: Sequence[TableField]) -> list[Problem]:
    """All ways in which a schema does not keep the declaration, before its rows are read.

    Columns that are not declared do not matter. A BIGNUMERIC may be NUMERIC, and JSON may come as STRING,
    whose rows `ColumnCheck` reads; any other type is a drift, which a CAST in the site's sql mends.
    """
    found = {field.name.lower(): field for field in fields}
    problems = []
    for column in columns:
        field = found.get(column.name.lower())
        if field is None:
            problems.append(_missing(column.name, [field.name for field in fields]))
            continue
        if field.type not in (column.type, *_ALSO_ACCEPTED.get(column.type, ())):
            problems.append(
                _problem(
                    column,
                    f"is {field.type}, and {column.type} is declared: CAST it in the site's sql",
                    "has the wrong type",
                )
            )
        if field.mode == "NULLABLE" and not column.nullable:
            problems.append(
                _problem(
                    column,
                    "has mode NULLABLE, and is declared without NULL: make it REQUIRED in the table, or "
                    "declare it nullable",
                    "may be NULL",
                )
            )
    return problems


def bad_data(problems: Sequence[Problem]) -> BadDataError:
    """One error for all problems, of which there is at least one, each told once."""
    messages = dict.fromkeys(problem.message for problem in problems)
    disclosed = dict.fromkeys(problem.disclosed for problem in problems)
    return BadDataError("; ".join(messages), disclosed="; ".join(disclosed))


def column_of(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array | pa.ChunkedArray:
    """The column of that name, whatever its case.

    Raises:
        BadDataError: There is none.
    """
    names = batch.schema.names
    position = next((at for at, each in enumerate(names) if each.lower() == name.lower()), None)
    if position is None:
        raise bad_data([_missing(name, names)])
    return batch.column(position)


class ColumnCheck:
    """Checks rows against declared columns, batch by batch, in any order.

    It keeps three counts and one value a column, so its memory does not grow with the rows.

    Args:
        columns: Those of the declared columns that the batches hold, of types that `check_declared` passes.
            A column that stays in the warehouse has no rows here; leave it out.
    """

    def __init__(self, columns: Sequence[DeclaredColumn]) -> None:
        self._tallies = [_Tally(column) for column in columns]
        self._rows = 0

    def add(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Counts what is wrong with the rows of one batch.

        Raises:
            BadDataError: It has no such column.
        """
        self._rows += batch.num_rows
        for tally in self._tallies:
            tally.add(column_of(batch, tally.column.name))

    def problems(self) -> list[Problem]:
        """What is wrong with all rows so far, in the order of the declaration."""
        return [problem for tally in self._tallies for problem in tally.problems(self._rows)]


class _Tally:
    """What is wrong with one column: how many rows, and the first value in order, to be found again."""

    def __init__(self, column: DeclaredColumn) -> None:
        self.column = column
        self._nulls = 0
        self._outside = 0
        self._example = ""
        self._not_json = 0

    def add(self, values: pa.Array | pa.ChunkedArray) -> None:
        if not self.column.nullable:
            self._nulls += values.null_count
        if self.column.allowed_values:
            self._count_outside(values)
        if self.column.type == "JSON":
            self._not_json += sum(not _is_json(text) for text in _strings(values).to_pylist())

    def problems(self, rows: int) -> list[Problem]:
        number = len(self.column.allowed_values)
        tellings = [
            (
                self._nulls,
                f"is NULL in {self._nulls} of {rows} rows, and is declared without: filter such rows out, or "
                "use COALESCE, in the site's sql",
                "is NULL in some rows",
            ),
            (
                self._outside,
                f"holds {_shown(self._example)}, and {self._outside} of {rows} rows are none of the {number} "
                "allowed values: map them to one in the site's sql, or allow them in the federation file",
                "holds a value that is not allowed",
            ),
            (
                self._not_json,
                f"is not JSON in {self._not_json} of {rows} rows, and is declared so: use SAFE.PARSE_JSON in "
                "the site's sql, or declare it STRING",
                "holds a value that is not JSON",
            ),
        ]
        return [_problem(self.column, message, disclosed) for count, message, disclosed in tellings if count]

    def _count_outside(self, values: pa.Array | pa.ChunkedArray) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = _strings(values).drop_null()
        allowed = pa.array(self.column.allowed_values, pa.string())
        outside = texts.filter(pc.invert(pc.is_in(texts, value_set=allowed)))
        if len(outside):
            least = pc.min(outside).as_py()
            self._example = min(self._example, least) if self._outside else least
            self._outside += len(outside)


def _strings(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    import pyarrow as pa

    if isinstance(values.type, pa.BaseExtensionType):
        values = values.cast(values.type.storage_type)
    return values.cast(pa.string())


def _is_json(text: str | None) -> bool:
    from components.data_processing.structured_text import parse_json

    try:
        if text is not None:
            parse_json(text)
    except ValueError:
        return False
    return True


def _marked_type(field: pa.Field) -> str:
    """Arrow has strings for JSON and GEOGRAPHY; BigQuery writes beside the field which of them it is."""
    kind = arrow_type(field.type)
    mark: bytes = (field.metadata or {}).get(b"ARROW:extension:name", b"")
    word = mark.removeprefix(b"google:sqlType:").decode(errors="replace").upper()
    return word if kind == "STRING" and word in TYPES else kind


def _problem(column: DeclaredColumn, message: str, disclosed: str) -> Problem:
    return Problem(
        message=f"column {column.name!r} {message}", disclosed=f"column {column.name!r} {disclosed}"
    )


def _missing(name: str, names: Sequence[str]) -> Problem:
    shown = ", ".join(names[:_SHOWN_NAMES]) or "none"
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return Problem(
        message=f"column {name!r} is missing (there are {shown}{more}): select it, or "
        "rename one with AS, in the site's sql",
        disclosed=f"column {name!r} is missing",
    )


def _type_mend(kind: str) -> str:
    known = kind.upper()
    if "<" in known:
        return f"declare the outer type alone, {known.partition('<')[0]}"
    if "(" in known:
        return f"declare it without its length or precision, {known.partition('(')[0].strip()}"
    word = _ALIASES.get(known) or (known if known in TYPES else "")
    return f"write {word}" if word else f"use one of {', '.join(TYPES)}"


def _shown(value: str) -> str:
    return repr(value if len(value) <= _SHOWN_LENGTH else value[:_SHOWN_LENGTH] + "…")
