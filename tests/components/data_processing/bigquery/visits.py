"""Rows of a clinic, and what the tests ask of a source."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from components.data_processing.bigquery.source import BigQuerySource

TAG = "projects/demo/locations/eu/taxonomies/1/policyTags/2"
SECRET = "Ada Lovelace, 10 December 1815"


def visits(rows: int, *, seed: int = 1) -> pa.Table:
    """One row a visit in every type that a record may have; each column but `id` has NULLs."""
    chance = random.Random(seed)

    def sometimes(value: Any) -> Any:
        return None if chance.random() < 0.1 else value

    moment = datetime(2026, 1, 1, 3, 4, 5, 678901, tzinfo=UTC)
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "note": [sometimes(f"note {chance.randint(0, 9)} it's «{n}»\n") for n in range(rows)],
            "ward": [sometimes(chance.choice(["4B", "Ä", ""])) for _ in range(rows)],
            "weight": pa.array([sometimes(chance.uniform(-5, 5)) for _ in range(rows)], pa.float64()),
            "urgent": [sometimes(chance.random() < 0.5) for _ in range(rows)],
            "born": pa.array([sometimes(date(1950, 1, 1) + timedelta(days=n)) for n in range(rows)]),
            "seen": pa.array(
                [sometimes(moment - timedelta(seconds=n)) for n in range(rows)], pa.timestamp("us", tz="UTC")
            ),
            "bill": pa.array([sometimes(Decimal(n) / 8) for n in range(rows)], pa.decimal128(38, 9)),
            "codes": pa.array([[f"C{n % 7}", "X"][: n % 3] for n in range(rows)], pa.list_(pa.string())),
            "person": pa.array(
                [{"name": SECRET, "age": n % 90} for n in range(rows)],
                pa.struct([("name", pa.string()), ("age", pa.int64())]),
            ),
        }
    )


def read(source: BigQuerySource, sql: str) -> list[dict[str, Any]]:
    """All rows of a query, in an order of their own."""
    rows = pa.Table.from_batches(list(source.batches(sql))).to_pylist()
    return sorted(rows, key=lambda row: json.dumps(row, default=str, sort_keys=True))


def ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rows` in the same order as `read` gives."""
    return sorted(rows, key=lambda row: json.dumps(row, default=str, sort_keys=True))
