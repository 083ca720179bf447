"""Which columns a query reads, decided from its text and the schemas of its tables.

The query is qualified and its unused projections are dropped, as BigQuery's own planner drops them; what is
left of a table's columns is read. Where that cannot be decided, every column that may be read counts as read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from components.data_processing.bigquery.statement import DIALECT, Statement, parse_statement, sources
from components.data_processing.bigquery.table_schema import TableName, TableSchema
from components.errors import BadDataError

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope

_PLACEHOLDER = "crosscloud_table_"
_VIEWS_DEEP = 16
# Columns of every partitioned or wildcard table, which hold no record's data and carry no tag.
_PSEUDO = frozenset({"_partitiontime", "_partitiondate", "_table_suffix", "_file_name"})


class ColumnName(NamedTuple):
    """A column of a table, with the table's own spelling."""

    table: TableName
    column: str


class _UndecidedError(Exception):
    """What the query reads cannot be told from its text."""


def columns_read(statement: Statement, schemas: Mapping[TableName, TableSchema]) -> frozenset[ColumnName]:
    """The columns that `statement` reads or may read.

    Args:
        statement: the query, before or after it was pinned to a snapshot.
        schemas: of every table that it names, and of every table that BigQuery says it reads: a table that
            is reached in a way that its text does not show (a view in legacy SQL, a table function) counts
            as read with all its columns.
    """
    from sqlglot.errors import SqlglotError

    try:
        reached: dict[str, TableSchema] = {}
        tree = statement.tree.copy()
        _name_tables(tree, statement, schemas, reached, depth=0)
        columns = _decided(tree, reached) | _shadowed(tree, reached)
    except (_UndecidedError, SqlglotError, BadDataError, RecursionError):
        return _all_columns(schemas.values())
    seen = {schema.name for schema in reached.values()}
    hidden = [schema for name, schema in schemas.items() if name not in seen and not schema.view_sql]
    return columns | _all_columns(hidden)


def _name_tables(
    tree: exp.Expr,
    statement: Statement,
    schemas: Mapping[TableName, TableSchema],
    reached: dict[str, TableSchema],
    *,
    depth: int,
) -> None:
    """Gives every table of `tree` a name of one part and puts its definition in place of every view."""
    from sqlglot import exp

    if depth > _VIEWS_DEEP:
        raise _UndecidedError
    found = sources(tree)
    if found.opaque:
        raise _UndecidedError
    for node in found.tables:
        schema = schemas.get(statement.full_name(node))
        if schema is None:
            raise _UndecidedError
        alias = node.alias_or_name
        if schema.kind.endswith("VIEW") and not schema.view_sql:
            raise _UndecidedError
        if schema.view_sql:
            if node.args.get("pivots") or node.args.get("joins"):
                raise _UndecidedError
            view = parse_statement(schema.view_sql, project=schema.name.project)
            inner = view.tree.copy()
            _name_tables(inner, view, schemas, reached, depth=depth + 1)
            node.replace(exp.Subquery(this=inner, alias=exp.TableAlias(this=exp.to_identifier(alias))))
            continue
        name = f"{_PLACEHOLDER}{len(reached)}"
        reached[name] = schema
        node.set("this", exp.to_identifier(name))
        for part in ("db", "catalog", "version"):
            node.set(part, None)
        if not node.alias:
            node.set("alias", exp.TableAlias(this=exp.to_identifier(alias)))


def _decided(tree: exp.Expr, reached: Mapping[str, TableSchema]) -> frozenset[ColumnName]:
    from sqlglot import exp
    from sqlglot.optimizer.pushdown_projections import pushdown_projections
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import traverse_scope
    from sqlglot.schema import MappingSchema

    types: dict[str, object] = {
        name: {column.name: column.kind for column in schema.columns} for name, schema in reached.items()
    }
    query = qualify(
        tree.copy(),
        schema=MappingSchema(types, dialect=DIALECT),
        dialect=DIALECT,
        validate_qualify_columns=False,
    )
    query = pushdown_projections(query)
    if any(not isinstance(star.parent, exp.Count) for star in query.find_all(exp.Star)):
        raise _UndecidedError
    read: set[ColumnName] = set()
    known: set[tuple[str, str]] = set()
    unknown: set[tuple[str, str]] = set()
    for scope in traverse_scope(query):
        read |= _whole_rows(scope, reached)
        for column in scope.columns:
            source = scope.sources.get(column.table)
            if source is None:
                unknown.add((column.table, column.name.lower()))
                continue
            known.add((column.table, column.name.lower()))
            if isinstance(source, exp.Table):
                read.add(_column_of(reached, source, column.name))
    # A column of an outer query is known in the outer scope, which lists it too.
    if any(column not in known and column[1] not in _PSEUDO for column in unknown):
        raise _UndecidedError
    return frozenset(read)


def _whole_rows(scope: Scope, reached: Mapping[str, TableSchema]) -> frozenset[ColumnName]:
    """Columns of tables whose row is used as one value, as in `TO_JSON_STRING(t)`."""
    from sqlglot import exp

    whole = []
    for row in scope.table_columns:
        source = scope.sources.get(row.name)
        if source is None:
            raise _UndecidedError
        if isinstance(source, exp.Table):
            whole.append(_schema_of(reached, source))
    return _all_columns(whole)


def _shadowed(tree: exp.Expr, reached: Mapping[str, TableSchema]) -> frozenset[ColumnName]:
    """Columns behind an alias of the same name, in clauses where BigQuery takes the column.

    In `SELECT UPPER(note) AS ssn … GROUP BY ssn, note` BigQuery groups by the column `ssn` of the table,
    where the qualifier takes the alias.
    """
    from sqlglot import exp

    names: set[str] = set()
    for select in tree.find_all(exp.Select):
        aliases = {
            projection.alias.lower() for projection in select.selects if isinstance(projection, exp.Alias)
        }
        clauses = [select.args.get(name) for name in ("where", "group", "having", "qualify")]
        columns = [column for clause in clauses if clause for column in clause.find_all(exp.Column)]
        names |= {column.name.lower() for column in columns if not column.table} & aliases
    return frozenset(
        ColumnName(schema.name, column.name)
        for schema in reached.values()
        for column in schema.columns
        if column.name.lower() in names
    )


def _column_of(reached: Mapping[str, TableSchema], source: exp.Table, name: str) -> ColumnName:
    schema = _schema_of(reached, source)
    for column in schema.columns:
        if column.name.lower() == name.lower():
            return ColumnName(schema.name, column.name)
    if name.lower() in _PSEUDO:
        return ColumnName(schema.name, name)
    raise _UndecidedError


def _schema_of(reached: Mapping[str, TableSchema], source: exp.Table) -> TableSchema:
    schema = reached.get(source.name)
    if schema is None:
        raise _UndecidedError
    return schema


def _all_columns(schemas: Collection[TableSchema]) -> frozenset[ColumnName]:
    return frozenset(ColumnName(schema.name, column.name) for schema in schemas for column in schema.columns)
