"""Rows a second and memory of ingestion: from a source to shards in the site's own store.

Writes build/bench/ingest.json and prints a table; with QUICK=1 in the environment of a tenth of the rows.
Each source is read in a process of its own, which tells its peak resident size. The tests' BigQuery runs in
another, on the same processors: what it takes to answer is in the seconds, and not in the memory. Linux only.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from components.data_processing.sources import Source

ROWS, QUICK_ROWS = 2_000_000, 200_000
OUTPUT = Path("build/bench/ingest.json")
CLASSES = tuple(f"chapter {number}" for number in range(21))
SQL = "SELECT diagnosis_text, chapter, icd_category FROM encounters"
DATASET = "clinic"
Address = Mapping[str, str]
"""Where a source's rows are: its kind, and its path or its endpoints."""


def write_warehouse(path: Path, rows: int) -> None:
    """A DuckDB file with seeded rows: texts of about 150 bytes that compress badly, 21 labels, categories."""
    import duckdb

    with duckdb.connect(str(path), config={"threads": 2, "memory_limit": "512MiB"}) as connection:
        connection.execute(
            """
            CREATE TABLE encounters AS SELECT
              'encounter ' || k AS record_id,
              'chronic disorder ' || md5(k::VARCHAR) || ', left side, with complication '
                || md5((k + 1)::VARCHAR) || ', sequela of ' || md5((k // 3)::VARCHAR) AS diagnosis_text,
              'chapter ' || hash(k) % 21 AS chapter,
              'C' || hash(k // 7) % 997 AS icd_category
            FROM range(?) AS numbers(k)
            """,
            [rows],
        )


@contextlib.contextmanager
def _duckdb(warehouse: Path) -> Iterator[Address]:
    yield {"kind": "duckdb", "uri": str(warehouse)}


@contextlib.contextmanager
def _served(warehouse: Path) -> Iterator[Address]:
    """The tests' BigQuery over a copy of the rows, until its standard input ends."""
    server = "tests.components.data_processing.bigquery.server.local_bigquery"
    with subprocess.Popen(
        [sys.executable, "-m", server, str(warehouse), DATASET],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield {"kind": "bigquery", **json.loads(process.stdout.readline())}
        finally:
            process.stdin.close()


@contextlib.contextmanager
def _rest(warehouse: Path) -> Iterator[Address]:
    """The same without the Storage Read API: rows come page by page."""
    with _served(warehouse) as address:
        yield {**address, "storage_endpoint": ""}


SOURCES: Mapping[str, Callable[[Path], AbstractContextManager[Address]]] = {
    "DuckDB": _duckdb,
    "BigQuery, Storage": _served,
    "BigQuery, REST": _rest,
}
"""Each makes the rows of a DuckDB file available as a source of its kind."""


def measure(source: str, warehouse: Path, folder: Path) -> dict[str, float]:
    """Ingests in a child with its own store and temporary files below `folder`.

    Returns:
        `seconds`, `rows`, `shards`, `peak_mb` and `start_mb`: resident size at its peak, and before any row.
    """
    command = [sys.executable, "-m", "tests.benchmarks.ingest"]
    with SOURCES[source](warehouse) as address:
        environment = os.environ | {"TMPDIR": str(folder)}
        told = subprocess.run(
            [*command, json.dumps(address), str(folder / "store")],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    found: dict[str, float] = json.loads(told.stdout)
    return found


def main() -> None:
    """Measures every source on the same rows and writes what it found."""
    measured: dict[str, dict[str, float]] = {}
    rows = QUICK_ROWS if os.environ.get("QUICK") else ROWS
    with tempfile.TemporaryDirectory(prefix="crosscloud-bench-") as folder:
        warehouse = Path(folder) / "warehouse.duckdb"
        write_warehouse(warehouse, rows)
        for number, source in enumerate(SOURCES):
            own = Path(folder) / str(number)
            own.mkdir()
            measured[source] = measure(source, warehouse, own)
            shutil.rmtree(own)
    document = {
        "rows": rows,
        "sources": measured,
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=1))
    table = Table("source", "rows/s", "seconds", "shards", "peak memory", "before a row", box=None)
    for source, found in measured.items():
        table.add_row(
            source,
            f"{found['rows'] / found['seconds']:,.0f}",
            f"{found['seconds']:.1f}",
            f"{found['shards']:.0f}",
            f"{found['peak_mb']:.0f} MB",
            f"{found['start_mb']:.0f} MB",
        )
    Console().print(table)


def ingest(address: Address, store: str) -> dict[str, float]:
    """Reads, checks, sorts and stores all rows of a source in this process."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from components.artifacts.stores import open_store
    from components.data_processing.record_ingestion.extraction import extract
    from components.data_processing.record_ingestion.row_shards import cut, keep_rows, shards_of

    start_mb, start = _memory_mb("VmHWM"), time.perf_counter()
    kept_in = open_store(store)
    with contextlib.closing(_opened(address)) as source:
        extraction = extract(
            source,
            SQL,
            template_columns=["diagnosis_text"],
            label_column="chapter",
            split_column="icd_category",
            test_fraction=0.2,
            classes=CLASSES,
        )
    with contextlib.closing(extraction.rows) as rows:
        kept = keep_rows(kept_in, Ed25519PrivateKey.generate(), cut(rows.ordered()))
    seconds = time.perf_counter() - start
    written = shards_of(kept_in, kept.key)
    return {
        "seconds": round(seconds, 2),
        "rows": sum(shard.rows for shard in written),
        "shards": len(written),
        "start_mb": start_mb,
        "peak_mb": _memory_mb("VmHWM"),
    }


def _opened(address: Address) -> Source:
    from components.data_processing.bigquery.source import open_bigquery
    from components.data_processing.bigquery.terms import BigQueryTerms
    from components.data_processing.sources import open_source

    if address["kind"] != "bigquery":
        return open_source(address["kind"], address["uri"])
    terms = BigQueryTerms(
        project="demo",
        location="EU",
        maximum_bytes_billed=1 << 40,
        default_dataset=DATASET,
        endpoint=address["endpoint"],
        storage_endpoint=address["storage_endpoint"],
    )
    return open_bigquery(terms)


def _memory_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(field))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(ingest(json.loads(sys.argv[1]), sys.argv[2])))  # noqa: T201
    else:
        main()
