"""From a source to the rows a site trains and is measured on: checked, bare and in one order.

The rows of a site have one canonical form whatever the warehouse: the text columns as strings, `label` and
`is_test`, sorted by all columns. Equal records give equal shards, so what is cached by their digests
(features above all) is found again, whatever order a warehouse returns its rows in. Where rows are counted by
a unit of privacy, `unit_rows` says in which order they come and which are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.data_processing.contract import RecordCheck, check_schema
from components.data_processing.declared_columns import (
    ColumnCheck,
    DeclaredColumn,
    Problem,
    arrow_fields,
    bad_data,
    check_declared,
)
from components.data_processing.query import extraction_statement
from components.data_processing.record_ingestion.record_texts import RecordTexts, canonical_schema
from components.data_processing.record_ingestion.sorted_rows import RowSorter
from components.data_processing.record_ingestion.unit_rows import UnitRows, check_unit
from components.data_processing.row_statistics import RowCounter, RowStatistics
from components.errors import BadDataError

if TYPE_CHECKING:
    import pyarrow as pa

    from components.data_processing.sources import Source


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """What was read of a site's records.

    Attributes:
        rows: all of them, read and checked, to be had sorted by all columns; the caller closes it.
        statistics: of the records as the warehouse gave them.
        masked: values that were masked in the rows, by kind.
        units: by which rows are counted; None where all are kept.
    """

    rows: RowSorter
    statistics: RowStatistics
    masked: Mapping[str, int]
    units: UnitRows | None = None

    def ordered(self) -> Iterator[pa.Table]:
        """The rows that the site trains and is measured on, in order, in pieces of one chunk each; once."""
        pieces = self.rows.ordered()
        return pieces if self.units is None else self.units.kept(pieces)


def extract(
    source: Source,
    sql: str,
    *,
    template_columns: Sequence[str],
    label_column: str,
    split_column: str,
    test_fraction: float,
    classes: Sequence[str],
    declared: Sequence[DeclaredColumn] = (),
    kinds: Sequence[str] = (),
    parameters: Collection[str] = (),
    training_rows_required: bool = True,
    units: UnitRows | None = None,
) -> Extraction:
    """Reads what the task needs of the records that `sql` selects, in memory that does not grow with them.

    What the query returns is compared with the declared columns before any row is read or paid for.

    Args:
        source: Where the records are; it is not needed any more when this returns.
        sql: The site's query, one SELECT in BigQuery's dialect.
        template_columns: Text columns; see `template.columns_of`.
        label_column: Column that holds the class.
        split_column: Column whose values the split never parts; it does not leave the warehouse.
        test_fraction: Share of the split values that are test rows, a multiple of 0.001.
        classes: Every label must be one of these.
        declared: Columns that the federation declares, in the template or not.
        kinds: Of values that are masked in the texts.
        parameters: Names of the parameters that the source has values for.
        training_rows_required: Whether having no rows, or test rows only, is a fault.
        units: By which rows are counted, and what is kept of them; None for all.

    Returns:
        Rows with columns `template_columns` (string), `label` (string) and `is_test` (bool), and what they
        tell about themselves.

    Raises:
        BadDataError: The query is refused or fails, or its rows break the contract.
        UsageError: `query.check_columns` finds fault with the columns or the split.
        StoreError: The temporary folder cannot hold the rows while they are sorted.
    """
    statement = extraction_statement(
        sql,
        columns=template_columns,
        label_column=label_column,
        split_column=split_column,
        test_fraction=test_fraction,
        unit_column=units.column if units else "",
        parameters=parameters,
    )
    texts = RecordTexts(template_columns, label_column=label_column, declared=declared, kinds=kinds)
    schema = source.schema(sql)
    fields = arrow_fields(schema)
    _require_none(check_declared(declared, fields))
    check_schema(
        schema, text_columns=texts.plain_columns, label_column=label_column, split_column=split_column
    )
    texts.check(schema)
    if units is not None:
        check_unit(schema, units.unit)
    read = {name.lower() for name in [*template_columns, label_column]}
    held = [column for column in declared if column.name.lower() in read]
    columns = ColumnCheck(held)
    check = RecordCheck(text_columns=template_columns, label_column=label_column, classes=classes)
    counter = RowCounter(
        fields, classes=classes, label_column=label_column, counted=[column.name for column in held]
    )
    kept = canonical_schema(template_columns)
    rows = RowSorter(units.ranked_schema(kept) if units else kept)
    try:
        for batch in source.batches(statement):
            columns.add(batch)
            counter.add(batch)
            readable = texts.readable(batch)
            check.add(readable)
            broken = check.broken or (units is not None and units.lacking(batch))
            if not broken:
                canonical = texts.canonical(readable)
                rows.add(units.ranked(canonical, batch) if units else canonical)
        _conclude(check, columns, units, is_private=not training_rows_required)
    except BaseException:
        rows.close()
        raise
    return Extraction(rows=rows, statistics=counter.statistics(), masked=texts.masked, units=units)


def _conclude(check: RecordCheck, columns: ColumnCheck, units: UnitRows | None, *, is_private: bool) -> None:
    """Under a charter with an epsilon what rows break is not told to others in words: one row decides it."""
    try:
        check.conclude(training_rows_required=not is_private)
        _require_none(columns.problems())
        if units is not None:
            units.conclude()
    except BadDataError as error:
        raise BadDataError(str(error)) if is_private else error from None


def _require_none(problems: Sequence[Problem]) -> None:
    if problems:
        raise bad_data(problems)
