"""Policy tags: a query that reads a tagged column runs only where the site allows that column by name.

BigQuery checks by itself whether the identity may read what a tag protects. This check comes before it and
does not replace it: an identity that may read a column for another purpose does not put it into a federation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from components.data_processing.bigquery.columns_read import ColumnName
from components.data_processing.bigquery.table_schema import TableName, TableSchema
from components.errors import RefusedError


def check_policy_tags(
    read: Iterable[ColumnName],
    schemas: Mapping[TableName, TableSchema],
    *,
    allowed: Collection[str],
    written: Collection[str],
) -> None:
    """Refuses to read tagged columns that the site does not allow.

    Args:
        read: the columns that the query reads or may read.
        schemas: of their tables.
        allowed: columns that may be read, `column` or `table.column`, without regard to case.
        written: lower-case names that the query writes, the only ones that others are told.

    Raises:
        RefusedError: a tagged column is read and not allowed; all such columns are named.
    """
    admitted = {name.lower() for name in allowed}
    refused = []
    for table, name in sorted(set(read)):
        tags = next((column.policy_tags for column in schemas[table].columns if column.name == name), ())
        names = {name.lower(), f"{table.table}.{name}".lower()}
        if tags and not names & admitted:
            refused.append((f"{table}.{name}", name, tags))
    if not refused:
        return
    shown = ", ".join(f"{column} ({tags[0]})" for column, _, tags in refused)
    told = [name for _, name, _ in refused if name.lower() in written]
    raise RefusedError(
        f"the query reads columns with a policy tag: {shown}; leave them out of the sql (a * reads them all, "
        "EXCEPT leaves some out), or name them under allowed_tagged_columns in the site's terms",
        disclosed="the query reads a column with a policy tag" + (f": {', '.join(told)}" if told else ""),
    )
