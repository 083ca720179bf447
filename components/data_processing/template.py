"""The text a record is turned into: a template over columns, `"{diagnosis_text}, {ward}"`.

Fields are plain column names. What str.format allows beyond that (attributes, indices, conversions,
format specifications) is refused: a template comes from the federation file and must not be able to
reach into Python objects or to render alike rows differently.
"""

from __future__ import annotations

import re
from itertools import chain
from string import Formatter
from typing import TYPE_CHECKING

from components.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")


def columns_of(template: str) -> tuple[str, ...]:
    """Column names that `template` uses, each once, in the order of their first use.

    Raises:
        UsageError: The braces do not match, a field is not a plain column name, or there is none.
    """
    columns = tuple(dict.fromkeys(name for _, name in _parts(template) if name))
    if not columns:
        raise UsageError(
            f"text template {template!r} names no column: write one in braces, as in '{{notes}}'"
        )
    return columns


def render(template: str, table: pa.Table) -> list[str]:
    """One text a row: every field replaced by the value of its column, which must hold strings.

    Raises:
        UsageError: As `columns_of`.
    """
    columns_of(template)
    parts = _parts(template)
    values = [table.column(name).to_pylist() if name else [""] * table.num_rows for _, name in parts]
    literals = [literal for literal, _ in parts]
    return [
        "".join(chain.from_iterable(zip(literals, row, strict=True))) for row in zip(*values, strict=True)
    ]


def _parts(template: str) -> list[tuple[str, str]]:
    """Pairs of literal text and the column that follows it ("" after the last literal)."""
    try:
        fields = list(Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"text template {template!r}: {error}; a brace itself is written twice") from None
    parts = []
    for literal, name, specification, conversion in fields:
        if name is not None and (specification or conversion or not COLUMN_NAME.fullmatch(name)):
            field = (
                name
                + (f"!{conversion}" if conversion else "")
                + (f":{specification}" if specification else "")
            )
            raise UsageError(
                f"text template field {field!r} is not a plain column name: write {{column}}, and shape "
                "the value in the site's sql"
            )
        parts.append((literal, name or ""))
    return parts
