"""BigQuery's fields, cells and parameters, from and to Arrow."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pyarrow as pa
from sqlglot import exp

BYTES_EACH = {"INTEGER": 8, "FLOAT": 8, "TIMESTAMP": 8, "DATETIME": 8, "DATE": 8, "TIME": 8, "BOOLEAN": 1}
Field = dict[str, Any]


def standard(table: pa.Table) -> pa.Table:
    """`table` in the types that BigQuery has."""
    fields = [pa.field(field.name, _standard_type(field.type)) for field in table.schema]
    columns = [
        column.cast(column.type.storage_type) if isinstance(column.type, pa.BaseExtensionType) else column
        for column in table.columns
    ]
    cast = [column.cast(field.type) for column, field in zip(columns, fields, strict=True)]
    return pa.table(cast, schema=pa.schema(fields))


def _standard_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_standard_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(child.name, _standard_type(child.type)) for child in kind])
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC") if kind.tz else pa.timestamp("us")
    # DuckDB sums integers to 128 bits, which arrive as decimals without a fraction.
    whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    standards = [
        (isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind), pa.string()),
        (whole, pa.int64()),
        (pa.types.is_decimal(kind) and not whole, pa.decimal128(38, 9)),
        (pa.types.is_floating(kind), pa.float64()),
    ]
    return next((standard for holds, standard in standards if holds), kind)


def field_of(name: str, kind: pa.DataType) -> Field:
    """The BigQuery field of an Arrow column in standard types."""
    if pa.types.is_list(kind):
        return {**field_of(name, kind.value_type), "mode": "REPEATED"}
    field: Field = {"name": name, "mode": "NULLABLE"}
    if pa.types.is_struct(kind):
        return {**field, "type": "RECORD", "fields": [field_of(child.name, child.type) for child in kind]}
    if pa.types.is_timestamp(kind):
        return {**field, "type": "TIMESTAMP" if kind.tz else "DATETIME"}
    names = {
        pa.int64(): "INTEGER",
        pa.float64(): "FLOAT",
        pa.bool_(): "BOOLEAN",
        pa.date32(): "DATE",
        pa.time64("us"): "TIME",
        pa.binary(): "BYTES",
        pa.decimal128(38, 9): "NUMERIC",
    }
    return {**field, "type": names.get(kind, "STRING")}


def cell(value: Any, field: Field) -> dict[str, Any]:
    """One value as the REST API writes it."""
    if field["mode"] == "REPEATED":
        return {"v": [cell(item, {**field, "mode": "NULLABLE"}) for item in value or []]}
    if value is None:
        return {"v": None}
    if field["type"] == "RECORD":
        return {"v": {"f": [cell(value[child["name"]], child) for child in field["fields"]]}}
    return {"v": _text(value, field["type"])}


def _text(value: Any, kind: str) -> str:
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if kind == "TIMESTAMP":
        return str(int(value.timestamp()) * 1_000_000 + value.microsecond)
    return str(value.isoformat() if hasattr(value, "isoformat") else value)


def parameter(declared: dict[str, Any]) -> exp.Expr:
    """A query parameter's value as an expression."""
    kind, value = declared["parameterType"], declared["parameterValue"]
    if kind["type"] == "ARRAY":
        items = value.get("arrayValues", [])
        return exp.Array(
            expressions=[
                parameter({"parameterType": kind["arrayType"], "parameterValue": item}) for item in items
            ]
        )
    text = value["value"]
    if kind["type"] == "BOOL":
        return exp.Boolean(this=text == "true")
    reads: dict[str, tuple[Callable[[str], Any], str]] = {
        "INT64": (int, "BIGINT"),
        "FLOAT64": (float, "DOUBLE"),
        "DATE": (date.fromisoformat, "DATE"),
        "TIMESTAMP": (datetime.fromisoformat, "TIMESTAMPTZ"),
        "STRING": (str, "TEXT"),
    }
    read, name = reads[kind["type"]]
    read(text)
    return exp.cast(exp.Literal.string(text), name)
