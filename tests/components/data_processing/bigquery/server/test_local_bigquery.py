"""The server itself, asked by Google's own clients, and as a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from components.data_processing.bigquery.source import open_bigquery
from components.data_processing.bigquery.terms import BigQueryTerms
from tests.components.data_processing.bigquery.server.local_bigquery import LocalBigQuery

MODULE = "tests.components.data_processing.bigquery.server.local_bigquery"
ROWS = pa.table({"id": range(30), "ward": ["4B", "Ä", None] * 10})


@pytest.fixture
def client(service: LocalBigQuery) -> bigquery.Client:
    service.warehouse.put("clinic", "visits", ROWS)
    return bigquery.Client(
        project="demo",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(api_endpoint=service.endpoint),
    )


def test_googles_client_lists_a_tables_rows_page_by_page(client: bigquery.Client) -> None:
    rows = client.list_rows("demo.clinic.visits", page_size=7)
    assert [page.num_items for page in rows.pages] == [7, 7, 7, 7, 2]


def test_googles_client_queries_at_once(client: bigquery.Client) -> None:
    rows = client.query_and_wait("SELECT ward, COUNT(*) AS n FROM clinic.visits GROUP BY ward ORDER BY ward")
    assert [tuple(row) for row in rows] == [(None, 10), ("4B", 10), ("Ä", 10)]


def test_a_dry_run_counts_eight_bytes_a_number_and_two_and_its_length_a_string(
    client: bigquery.Client,
) -> None:
    config = bigquery.QueryJobConfig(dry_run=True)
    assert client.query("SELECT id FROM clinic.visits", job_config=config).total_bytes_processed == 30 * 8
    both = client.query("SELECT * FROM clinic.visits", job_config=config)
    assert both.total_bytes_processed == 30 * 8 + 10 * (2 + 2) + 10 * (2 + 2)


def test_fingerprints_are_those_of_bigquerys_documentation(client: bigquery.Client) -> None:
    sql = "SELECT FARM_FINGERPRINT(CONCAT('1', 'foo', 'true')) AS f"
    assert [row.f for row in client.query_and_wait(sql)] == [-1541654101129638711]


def test_a_duckdb_file_is_served_by_a_process_until_its_input_ends(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        connection.register("incoming", ROWS)
        connection.execute("CREATE TABLE visits AS SELECT * FROM incoming")
    command = [sys.executable, "-m", MODULE, str(path), "clinic"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        terms = BigQueryTerms(project="demo", location="EU", maximum_bytes_billed=1 << 30, **addresses)
        with contextlib.closing(open_bigquery(terms)) as source:
            batches = list(source.batches("SELECT id, ward FROM clinic.visits"))
        assert source.account()["api"] == "storage"
        assert pa.Table.from_batches(batches).sort_by("id").to_pylist() == ROWS.to_pylist()
        process.communicate(timeout=30)
    assert process.returncode == 0
