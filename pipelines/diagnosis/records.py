"""What a site's query must return, and what can be told of it without reading a row."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.agreement.privacy_unit import ReadUnit
from components.data_processing.contract import check_schema
from components.data_processing.declared_columns import (
    DeclaredColumn,
    TableField,
    arrow_fields,
    check_declared,
)
from components.data_processing.query import extraction_statement
from components.data_processing.record_ingestion.record_texts import RecordTexts
from components.data_processing.record_ingestion.unit_rows import check_unit
from components.data_processing.sources import open_source
from components.data_processing.template import columns_of
from components.errors import UsageError
from pipelines.diagnosis.findings import Finding, NotCheckedError, look

if TYPE_CHECKING:
    import pyarrow as pa

    from components.data_processing.sources import Source
    from pipelines.data_sections import Task


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A site's query and what the federation asks it to return.

    Attributes:
        sql: one SELECT in BigQuery's dialect.
        task: what is to be learned.
        declared: columns that the federation file declares; there may be none.
        unit: of privacy, by which rows are counted; None where they are not.
    """

    sql: str
    task: Task
    declared: Sequence[DeclaredColumn]
    unit: ReadUnit | None = None

    def statement(self, parameters: Collection[str] = ()) -> str:
        """What a round runs on the warehouse."""
        return extraction_statement(
            self.sql,
            columns=columns_of(self.task.template),
            label_column=self.task.label_column,
            split_column=self.task.split.column,
            test_fraction=self.task.split.test_fraction,
            unit_column=self.unit.column if self.unit else "",
            parameters=parameters,
        )

    def names(self) -> tuple[str, ...]:
        """Columns that the query must return, each once."""
        needed = [*columns_of(self.task.template), self.task.label_column, self.task.split.column]
        needed += [self.unit.column] if self.unit else []
        return tuple(dict.fromkeys([*needed, *(column.name for column in self.declared)]))

    def check(self, schema: pa.Schema) -> str:
        """The query returns the template's columns, the label, the split column and the unit of privacy.

        Raises:
            BadDataError: one is missing or of another type.
        """
        check_schema(
            schema,
            text_columns=self._texts().plain_columns,
            label_column=self.task.label_column,
            split_column=self.task.split.column,
        )
        if self.unit is not None:
            check_unit(schema, self.unit)
        return f"the query returns {', '.join(schema.names)}"

    def check_declared(self, fields: Sequence[TableField], schema: pa.Schema) -> str:
        """It returns what the federation file declares, and texts can be made of it.

        Raises:
            BadDataError: a column of the template has parts that have no text.
            UsageError: a column is missing, of another type or may be NULL; one problem a line.
        """
        if not self.declared:
            return "the federation file declares none (task.columns)"
        problems = check_declared(self.declared, fields)
        if problems:
            raise UsageError("\n".join(dict.fromkeys(problem.message for problem in problems)))
        self._texts().check(schema)
        return f"{', '.join(column.name for column in self.declared)} are as declared"

    def check_selected(self) -> str:
        """The query's own text selects what it must return.

        Raises:
            NotCheckedError: it selects a *, whose columns the warehouse alone knows.
            UsageError: it selects no such column; one problem a line.
        """
        selected = _selected(self.sql)
        if selected is None:
            raise NotCheckedError("the query selects *: its columns are the warehouse's to tell")
        lower = {name.lower() for name in selected}
        problems = [
            f"the query selects no column {name!r} (it selects {', '.join(selected)}): select it, or rename "
            "one with AS, in the site's sql"
            for name in self.names()
            if name.lower() not in lower
        ]
        if problems:
            raise UsageError("\n".join(problems))
        return f"the query selects {', '.join(self.names())}"

    def _texts(self) -> RecordTexts:
        columns = columns_of(self.task.template)
        return RecordTexts(columns, label_column=self.task.label_column, declared=self.declared)


def file_findings(site: str, wanted: Wanted, kind: str, uri: str) -> Iterator[Finding]:
    """A DuckDB file, or Parquet files, that a site's query reads.

    Args:
        site: its name.
        wanted: the query and what it must return.
        kind: `duckdb` or `parquet`.
        uri: of the warehouse.
    """
    opened: list[Source] = []
    schemas: list[pa.Schema] = []

    def reach() -> str:
        opened.append(open_source(kind, uri))
        return f"{uri} is there and can be opened"

    def schema() -> str:
        if not opened:
            raise NotCheckedError("the source was not reached")
        schemas.append(opened[0].schema(wanted.sql))
        return wanted.check(schemas[0])

    def columns() -> str:
        if not schemas:
            raise NotCheckedError("the query's schema is not known")
        return wanted.check_declared(arrow_fields(schemas[0]), schemas[0])

    with contextlib.ExitStack() as stack:
        yield from look(site, "source", reach)
        for source in opened:
            stack.callback(source.close)
        yield from look(site, "schema", schema)
        yield from look(site, "columns", columns)


def _selected(sql: str) -> tuple[str, ...] | None:
    """Names of the columns that a query selects; None where it selects a *."""
    import sqlglot
    from sqlglot import exp

    query = sqlglot.parse_one(sql, read="bigquery")
    if not isinstance(query, exp.Query) or query.is_star:
        return None
    return tuple(query.named_selects)
