"""BigQuery on this machine: real HTTP and gRPC over DuckDB, for tests, whole rounds and benchmarks.

In a test: `with LocalBigQuery() as service: service.warehouse.put("clinic", "visits", table)`.
As a process: `python -m tests.components.data_processing.bigquery.server.local_bigquery FILE.duckdb DATASET`
serves the tables of a DuckDB file as one dataset, prints its addresses as one line of JSON, and ends when its
standard input does.
"""

from __future__ import annotations

import json
import sys
import threading
from types import TracebackType
from typing import Any, Self

import duckdb

from components.data_processing.bigquery.terms import BigQueryTerms
from tests.components.data_processing.bigquery.server.faults import Faults
from tests.components.data_processing.bigquery.server.jobs import Jobs
from tests.components.data_processing.bigquery.server.rest import RestApi, serve_rest
from tests.components.data_processing.bigquery.server.storage import StorageApi, serve_storage
from tests.components.data_processing.bigquery.server.warehouse import LOCATION, PROJECT, Warehouse

GIBIBYTE = 1 << 30


class LocalBigQuery:
    """One running service; its warehouse, faults and jobs are open to tests."""

    def __init__(self) -> None:
        self.warehouse = Warehouse()
        self.faults = Faults()
        self.jobs = Jobs(self.warehouse, self.faults)
        self.storage = StorageApi(self.jobs, self.faults)
        self._rest = serve_rest(RestApi(self.warehouse, self.jobs, self.faults))
        self._grpc, self._grpc_port = serve_storage(self.storage)
        self._thread = threading.Thread(
            target=self._rest.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def endpoint(self) -> str:
        """Of the REST API."""
        return f"http://127.0.0.1:{self._rest.server_port}"

    @property
    def storage_endpoint(self) -> str:
        """Of the Storage Read API."""
        return f"127.0.0.1:{self._grpc_port}"

    def terms(self, **changes: Any) -> BigQueryTerms:
        """Terms that lead here; a test changes what it is about."""
        terms: dict[str, Any] = {
            "project": PROJECT,
            "location": LOCATION,
            "maximum_bytes_billed": GIBIBYTE,
            "deadline_s": 20.0,
            "endpoint": self.endpoint,
            "storage_endpoint": self.storage_endpoint,
        }
        return BigQueryTerms(**(terms | changes))

    def load(self, path: str, dataset: str) -> None:
        """Puts every table of a DuckDB file into `dataset`."""
        with duckdb.connect(path, read_only=True) as connection:
            for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                self.warehouse.put(dataset, name, connection.table(name).to_arrow_table())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rest.shutdown()
        self._rest.server_close()
        self._grpc.stop(grace=None).wait()
        self._thread.join()


def main() -> None:
    """Serves a DuckDB file until standard input ends."""
    path, dataset = sys.argv[1:3]
    with LocalBigQuery() as service:
        service.load(path, dataset)
        addresses = {"endpoint": service.endpoint, "storage_endpoint": service.storage_endpoint}
        sys.stdout.write(f"{json.dumps(addresses)}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
