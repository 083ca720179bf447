"""What BigQuery says of a table without reading it: columns, policy tags, kind and location."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from components.errors import BadDataError

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud import bigquery

_STANDARD_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
TABLE = "TABLE"
SNAPSHOT_TABLE = "SNAPSHOT"


class TableName(NamedTuple):
    """A table's full name; all three parts tell case apart."""

    project: str
    dataset: str
    table: str

    def __str__(self) -> str:
        """The name as SQL writes it."""
        return ".".join(self)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        name: as the table writes it; SQL does not tell case apart.
        kind: type in GoogleSQL, with those of a record's fields (`ARRAY<STRUCT<`code` STRING>>`).
        mode: `NULLABLE`, `REQUIRED` or `REPEATED`.
        policy_tags: full names of its tags; of a record, those of all its fields too.
    """

    name: str
    kind: str
    mode: str
    policy_tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """One table.

    Attributes:
        name: of the table.
        kind: `TABLE`, `VIEW`, `MATERIALIZED_VIEW`, `EXTERNAL` or `SNAPSHOT`.
        location: of its dataset.
        columns: in their order.
        view_sql: the definition of a view in GoogleSQL; empty for anything else.
    """

    name: TableName
    kind: str
    location: str
    columns: tuple[Column, ...]
    view_sql: str = ""


def read_schema(client: bigquery.Client, name: TableName, *, retry: Retry, timeout_s: float) -> TableSchema:
    """The schema of the table `name` (tables.get: no row is read and nothing is billed).

    Raises:
        google.api_core.exceptions.GoogleAPIError: it is not there, or its metadata may not be read.
    """
    from google.cloud import bigquery

    dataset = bigquery.DatasetReference(name.project, name.dataset)
    table = client.get_table(dataset.table(name.table), retry=retry, timeout=timeout_s)
    sql = table.view_query if table.table_type == "VIEW" and not table.view_use_legacy_sql else ""
    return TableSchema(
        name=name,
        kind=table.table_type or TABLE,
        location=table.location or "",
        columns=tuple(_column(field) for field in table.schema),
        view_sql=sql or table.mview_query or "",
    )


def check_history(schema: TableSchema) -> None:
    """Refuses what has no history of its own: views, external tables and table snapshots.

    Raises:
        BadDataError: it cannot be read as of a snapshot.
    """
    if schema.kind == TABLE:
        return
    kind = schema.kind.lower().replace("_", " ")
    mend = (
        "restore it into a table of its own (CREATE TABLE … CLONE …) and name that"
        if schema.kind == SNAPSHOT_TABLE
        else "read the tables behind it"
    )
    raise BadDataError(
        f"{schema.name} is of kind {kind} and cannot be read as of a round's snapshot: {mend}",
        disclosed="a source of the query cannot be read as of a snapshot",
    )


def _column(field: bigquery.SchemaField) -> Column:
    return Column(
        name=field.name,
        kind=_kind(field),
        mode=field.mode or "NULLABLE",
        policy_tags=tuple(dict.fromkeys(_tags(field))),
    )


def _kind(field: bigquery.SchemaField) -> str:
    kind = field.field_type.upper()
    if kind in {"RECORD", "STRUCT"}:
        kind = f"STRUCT<{', '.join(f'`{child.name}` {_kind(child)}' for child in field.fields)}>"
    kind = _STANDARD_NAMES.get(kind, kind)
    return f"ARRAY<{kind}>" if field.mode == "REPEATED" else kind


def _tags(field: bigquery.SchemaField) -> list[str]:
    own = list(field.policy_tags.names) if field.policy_tags else []
    return own + [tag for child in field.fields for tag in _tags(child)]
