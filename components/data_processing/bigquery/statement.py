"""A query as it is sent to BigQuery: parsed, its tables and parameters known, pinned to a snapshot."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from components.data_processing.bigquery.table_schema import TableName
from components.data_processing.bigquery.terms import SNAPSHOT
from components.data_processing.query import check_sql
from components.errors import BadDataError

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope

DIALECT = "bigquery"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a query reads from.

    Attributes:
        tables: nodes of the query that name a table or a view.
        opaque: sources that may read tables the query does not name: table functions, external queries,
            and arrays of an outer query's row.
    """

    tables: tuple[exp.Table, ...]
    opaque: tuple[exp.Table, ...]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One SELECT in BigQuery's dialect.

    Attributes:
        tree: the parsed query; never changed.
        project: of tables that are named by dataset and table.
        default_dataset: of tables that are named alone: `dataset` or `project.dataset`.
        parameters: lower-case names of the named parameters that it uses.
    """

    tree: exp.Expr
    project: str
    default_dataset: str
    parameters: frozenset[str]

    @property
    def sql(self) -> str:
        """The query as text, written anew: what runs is what was checked."""
        return self.tree.sql(dialect=DIALECT, comments=False)

    def names(self) -> frozenset[str]:
        """Lower-case names that the query itself writes; others may be told these."""
        from sqlglot import exp

        return frozenset(
            part.lower() for name in self.tree.find_all(exp.Identifier) for part in name.name.split(".")
        )

    def tables(self) -> tuple[TableName, ...]:
        """Full names of the tables and views that the query names, each once.

        Raises:
            BadDataError: as `sources` and `full_name`.
        """
        return tuple(dict.fromkeys(self.full_name(node) for node in sources(self.tree).tables))

    def full_name(self, node: exp.Table) -> TableName:
        """The full name of a table that the query names.

        Raises:
            BadDataError: it is named without a dataset, and there is no default dataset.
        """
        parts = [part.name for part in node.parts]
        if len(parts) == 1:
            if not self.default_dataset:
                text = f"table {parts[0]!r} has no dataset: write dataset.{parts[0]}"
                raise BadDataError(f"{text}, or set default_dataset in the site's terms", disclosed=text)
            parts = [*self.default_dataset.rsplit(".", 1), parts[0]]
        if len(parts) == 2:
            parts = [self.project, *parts]
        return TableName(parts[0], parts[1], ".".join(parts[2:]))

    def as_of_snapshot(self) -> Statement:
        """The query with `FOR SYSTEM_TIME AS OF @snapshot` on every table that it names.

        Raises:
            BadDataError: a table already has a time, or a source has none (a table function).
        """
        from sqlglot import exp

        tree = self.tree.copy()
        found = sources(tree)
        timeless = [node for node in found.opaque if not isinstance(node.this, exp.Identifier)]
        if timeless:
            name = timeless[0].sql(dialect=DIALECT)[:60]
            raise BadDataError(
                f"{name} cannot be read as of a snapshot: read tables instead",
                disclosed="the query has a source that cannot be read as of a snapshot",
            )
        for node in found.tables:
            if node.args.get("version") is not None:
                raise BadDataError(
                    f"table {node.name!r} already has a FOR SYSTEM_TIME: the site's snapshot sets the time, "
                    "leave it out of the sql",
                    disclosed="a table of the query already has a FOR SYSTEM_TIME",
                )
            moment = exp.Parameter(this=exp.Var(this=SNAPSHOT))
            node.set("version", exp.Version(this="TIMESTAMP", kind="AS OF", expression=moment))
        return replace(self, tree=tree, parameters=self.parameters | {SNAPSHOT})


def parse_statement(
    sql: str, *, project: str, default_dataset: str = "", declared: Collection[str] = ()
) -> Statement:
    """Parses one SELECT whose named parameters are all declared.

    Args:
        sql: the query.
        project: of tables that are named by dataset and table.
        default_dataset: of tables that are named alone; empty where they must not be.
        declared: names of the parameters that have a value.

    Raises:
        BadDataError: it is not one SELECT, or it uses a parameter that has no value.
    """
    tree = _one_select(sql)
    used = _parameters(tree)
    missing = sorted(used - {name.lower() for name in declared})
    if missing:
        why = " (the snapshot's own)" if missing[0] == SNAPSHOT else ""
        text = f"the query uses the parameter @{missing[0]}{why}, which has no value here"
        raise BadDataError(f"{text}: declare it among the site's parameters", disclosed=text)
    return Statement(tree=tree, project=project, default_dataset=default_dataset, parameters=used)


def sources(tree: exp.Expr) -> Sources:
    """What the query `tree` reads from; names of its WITH, and arrays of its own rows, are no sources.

    Raises:
        BadDataError: two sources of one FROM have one name, or none has.
    """
    from sqlglot import exp
    from sqlglot.errors import OptimizeError
    from sqlglot.optimizer.scope import Scope, traverse_scope

    try:
        scopes = traverse_scope(tree)
        selected = [(scope, scope.selected_sources) for scope in scopes]
    except OptimizeError:
        text = "the tables of the query cannot be told apart"
        raise BadDataError(
            f"{text}: give each table and each subquery in a FROM its own alias", disclosed=text
        ) from None
    tables: dict[int, exp.Table] = {}
    derived: set[int] = set()
    for scope, found in selected:
        for node, source in found.values():
            if isinstance(source, Scope):
                derived.add(id(node))
            elif isinstance(node, exp.Table) and _is_table(node, scope):
                tables[id(node)] = node
    opaque = [node for node in tree.find_all(exp.Table) if id(node) not in tables and id(node) not in derived]
    return Sources(tables=tuple(tables.values()), opaque=tuple(opaque))


def _is_table(node: exp.Table, scope: Scope) -> bool:
    """Whether `node` names a table, and not a function's result or an array of an outer row."""
    from sqlglot import exp

    if not isinstance(node.this, exp.Identifier):
        return False
    if len(node.parts) == 1:
        return True
    first = node.parts[0].name.lower()
    outer: Scope | None = scope
    while outer is not None:
        if any(first == name.lower() for name, (other, _) in outer.selected_sources.items() if other != node):
            return False
        outer = outer.parent
    return True


def _one_select(sql: str) -> exp.Expr:
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        trees = sqlglot.parse(sql, read=DIALECT)
    except (SqlglotError, RecursionError):
        trees = []
    tree = trees[0] if len(trees) == 1 else None
    if tree is None:
        problems = check_sql(sql)
    else:
        # The rules of a query are those of every source; only parameters have a meaning here alone.
        bare = tree.copy()
        for node in list(bare.find_all(exp.Parameter)):
            if isinstance(node.this, exp.Var | exp.Identifier) and not isinstance(node.parent, exp.Parameter):
                node.replace(exp.Null())
        problems = check_sql(bare.sql(dialect=DIALECT, comments=False))
    if tree is None or problems:
        shown = "; ".join(problems) or "it is not one SELECT statement"
        raise BadDataError(f"query refused: {shown}", disclosed="the query is not one SELECT")
    return tree


def _parameters(tree: exp.Expr) -> frozenset[str]:
    from sqlglot import exp

    return frozenset(node.name.lower() for node in tree.find_all(exp.Parameter))
