"""Tables over DuckDB, with every version they ever had, policy tags and views."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from components.data_processing import fingerprint
from tests.components.data_processing.bigquery.server.faults import ServiceError
from tests.components.data_processing.bigquery.server.field_types import BYTES_EACH, Field, field_of, standard

PROJECT = "demo"
LOCATION = "EU"
Key = tuple[str, str]


@dataclass
class StoredTable:
    """One table or view."""

    fields: list[Field]
    location: str
    kind: str = "TABLE"
    view_sql: str = ""
    versions: list[tuple[datetime, str]] = field(default_factory=list)
    """When each version began, and its table in DuckDB."""


class Warehouse:
    """All datasets of one project."""

    def __init__(self, project: str = PROJECT, location: str = LOCATION) -> None:
        self.project = project
        self.location = location
        self.window = timedelta(days=7)
        self.tables: dict[Key, StoredTable] = {}
        self._lock = threading.RLock()
        self._database = duckdb.connect(":memory:", config={"threads": 2})
        self._database.execute("SET TimeZone = 'UTC'")
        fingerprint.register(self._database)

    def put(
        self,
        dataset: str,
        table: str,
        rows: pa.Table,
        *,
        at: datetime | None = None,
        policy_tags: Mapping[str, str] | None = None,
        location: str = "",
    ) -> None:
        """Makes a table, or a new version of it from `at` on; tags are by column or `record.field`."""
        rows = standard(rows)
        fields = [field_of(each.name, each.type) for each in rows.schema]
        for path, tag in (policy_tags or {}).items():
            _field_at(fields, path.split("."))["policyTags"] = {"names": [tag]}
        with self._lock:
            stored = self.tables.setdefault(
                (dataset, table), StoredTable(fields=fields, location=location or self.location)
            )
            name = f"{dataset}__{table}__{len(stored.versions)}"
            cursor = self._database.cursor()
            cursor.register("incoming_rows", rows)
            cursor.execute(f'CREATE TABLE "{name}" AS SELECT * FROM incoming_rows')
            cursor.unregister("incoming_rows")
            stored.fields = fields
            stored.versions.append((at or datetime.now(UTC), name))

    def put_view(self, dataset: str, name: str, sql: str, columns: list[Field]) -> None:
        """Makes a view of `sql`, whose columns are given."""
        self.tables[dataset, name] = StoredTable(
            fields=columns, location=self.location, kind="VIEW", view_sql=sql
        )

    def find(self, dataset: str, table: str, location: str = "") -> StoredTable:
        """A table, which must lie in `location` if that is given; 404 otherwise."""
        stored = self.tables.get((dataset, table))
        if stored is None or (location and stored.location.lower() != location.lower()):
            raise ServiceError(
                404,
                "notFound",
                f"Not found: Table {self.project}:{dataset}.{table} was not found in location "
                f"{location or self.location}",
            )
        return stored

    def version(self, dataset: str, table: str, at: datetime | None) -> str:
        """DuckDB's name of the version that was current at a time, or is now."""
        stored = self.find(dataset, table)
        began = [name for start, name in stored.versions if at is None or start <= at]
        if not began or (at is not None and at < datetime.now(UTC) - self.window):
            raise ServiceError(
                400,
                "invalidQuery",
                f"Invalid time travel timestamp {at} for table {self.project}:{dataset}.{table}@. "
                f"Cannot read before {stored.versions[0][0]}",
            )
        return began[-1]

    def bytes_of(self, stored: StoredTable, name: str, columns: set[str] | None) -> int:
        """Logical size of some columns (lower-case names, None for all) of one version.

        8 bytes a number or date, 1 a boolean, 2 and its length a string; NULL is nothing.
        """
        total = 0
        for each in stored.fields:
            if columns is not None and each["name"].lower() not in columns:
                continue
            quoted = f'"{each["name"]}"'
            fixed = BYTES_EACH.get(each["type"]) if each["mode"] != "REPEATED" else None
            size = str(fixed) if fixed else f"2 + strlen(CAST({quoted} AS VARCHAR))"
            counted = f"CAST(COALESCE(SUM({size}), 0) AS BIGINT) AS n"
            found = self.query(f'SELECT {counted} FROM "{name}" WHERE {quoted} IS NOT NULL')
            total += found.column("n")[0].as_py()
        return total

    def query(self, sql: str) -> pa.Table:
        """Rows of a query in DuckDB's dialect, in BigQuery's types."""
        with self._lock:
            return standard(self._database.cursor().sql(sql).to_arrow_table())

    def resource(self, dataset: str, table: str) -> dict[str, Any]:
        """What tables.get answers."""
        stored = self.find(dataset, table)
        document: dict[str, Any] = {
            "kind": "bigquery#table",
            "id": f"{self.project}:{dataset}.{table}",
            "tableReference": {"projectId": self.project, "datasetId": dataset, "tableId": table},
            "type": stored.kind,
            "schema": {"fields": stored.fields},
            "location": stored.location,
        }
        if stored.kind == "VIEW":
            document["view"] = {"query": stored.view_sql, "useLegacySql": False}
        return document


def _field_at(fields: list[Field], path: list[str]) -> Field:
    found = next(each for each in fields if each["name"] == path[0])
    return found if len(path) == 1 else _field_at(found["fields"], path[1:])
