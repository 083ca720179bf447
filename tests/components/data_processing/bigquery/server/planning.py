"""From a query in BigQuery's dialect to one that DuckDB answers, and what it would read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tests.components.data_processing.bigquery.server.faults import ServiceError
from tests.components.data_processing.bigquery.server.field_types import Field, field_of, parameter
from tests.components.data_processing.bigquery.server.warehouse import Key, Warehouse

LEAST_BILLED_A_TABLE = 10 * 1024 * 1024


@dataclass
class Plan:
    """A query that can run."""

    sql: str
    fields: list[Field]
    bytes_processed: int
    referenced: list[Key] = field(default_factory=list)

    @property
    def bytes_billed(self) -> int:
        """10 MiB a table at least, as BigQuery bills."""
        least = LEAST_BILLED_A_TABLE * len(self.referenced)
        return max(self.bytes_processed, least) if self.bytes_processed else 0


class Planner:
    """Plans queries over one warehouse."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def plan(self, query: dict[str, Any], location: str) -> Plan:
        """Plans `configuration.query` of a job."""
        parameters = {
            declared["name"].lower(): parameter(declared) for declared in query.get("queryParameters", [])
        }
        default = query.get("defaultDataset", {}).get("datasetId", "")
        tree = _parsed(query["query"])
        columns: set[str] | None = {column.name.lower() for column in tree.find_all(exp.Column)}
        if isinstance(tree, exp.Select) and tree.is_star:
            columns = None
        plan = Plan(sql="", fields=[], bytes_processed=0)
        self._replace_tables(tree, plan, parameters, default=default, columns=columns, location=location)
        for node in list(tree.find_all(exp.Parameter)):
            if node.name.lower() not in parameters:
                raise ServiceError(400, "invalidQuery", f"Query parameter '{node.name}' not found at [1:1]")
            node.replace(parameters[node.name.lower()].copy())
        plan.sql = tree.sql(dialect="duckdb")
        try:
            empty = self._warehouse.query(f"SELECT * FROM ({plan.sql}) LIMIT 0")
        except duckdb.Error as error:
            raise ServiceError(400, "invalidQuery", _message(error)) from None
        plan.fields = [field_of(each.name, each.type) for each in empty.schema]
        return plan

    def _replace_tables(
        self,
        tree: exp.Expr,
        plan: Plan,
        parameters: dict[str, exp.Expr],
        *,
        default: str,
        columns: set[str] | None,
        location: str,
    ) -> None:
        derived = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
        for node in list(tree.find_all(exp.Table)):
            parts = [part.name for part in node.parts]
            if len(parts) == 1 and parts[0].lower() in derived:
                continue
            if len(parts) == 1 and not default:
                raise ServiceError(
                    400,
                    "invalid",
                    f'Table "{parts[0]}" must be qualified with a dataset (e.g. dataset.table).',
                )
            dataset, table = ([default, *parts])[-2:]
            stored = self._warehouse.find(dataset, table, location)
            alias = node.alias_or_name
            if stored.kind == "VIEW":
                inner = _parsed(stored.view_sql)
                self._replace_tables(inner, plan, parameters, default="", columns=columns, location=location)
                node.replace(exp.Subquery(this=inner, alias=exp.TableAlias(this=exp.to_identifier(alias))))
                continue
            name = self._warehouse.version(dataset, table, _moment(node, parameters))
            plan.bytes_processed += self._warehouse.bytes_of(stored, name, columns)
            if (dataset, table) not in plan.referenced:
                plan.referenced.append((dataset, table))
            node.set("this", exp.to_identifier(name, quoted=True))
            for part in ("db", "catalog", "version"):
                node.set(part, None)
            if not node.alias:
                node.set("alias", exp.TableAlias(this=exp.to_identifier(alias)))


def _parsed(sql: str) -> exp.Expr:
    try:
        tree = sqlglot.parse_one(sql, read="bigquery")
    except SqlglotError as error:
        raise ServiceError(400, "invalidQuery", f"Syntax error: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, exp.Query):
        raise ServiceError(400, "invalidQuery", "Only SELECT is answered here")
    return tree


def _moment(node: exp.Table, parameters: dict[str, exp.Expr]) -> datetime | None:
    version = node.args.get("version")
    if version is None:
        return None
    value = version.expression
    if isinstance(value, exp.Parameter):
        if value.name.lower() not in parameters:
            raise ServiceError(400, "invalidQuery", f"Query parameter '{value.name}' not found at [1:1]")
        value = parameters[value.name.lower()]
    moment = datetime.fromisoformat(value.find(exp.Literal).name)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _message(error: duckdb.Error) -> str:
    unknown = re.search(
        r'Referenced column "([^"]+)" not found|does not have a column named "([^"]+)"', str(error)
    )
    if unknown:
        return f"Unrecognized name: {unknown[1] or unknown[2]} at [1:8]"
    return str(error).split("\n", maxsplit=1)[0]
