"""Query jobs: planned when they are taken, run at once, and kept with their result."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from tests.components.data_processing.bigquery.server.faults import Faults, ServiceError
from tests.components.data_processing.bigquery.server.planning import Plan, Planner
from tests.components.data_processing.bigquery.server.warehouse import Warehouse

RESULTS = "_results"
NAMED_AT_MOST = 50


@dataclass
class Job:
    """One job, its plan, and its rows or its fault."""

    number: str
    location: str
    configuration: dict[str, Any]
    plan: Plan
    rows: pa.Table
    done_at: float
    error: dict[str, str] | None = None
    cancelled: bool = False

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.cancelled or time.monotonic() >= self.done_at

    def resource(self, project: str) -> dict[str, Any]:
        """What jobs.get answers."""
        dry = bool(self.configuration.get("dryRun"))
        status: dict[str, Any] = {"state": "DONE" if self.done else "RUNNING"}
        if self.done and self.error:
            status |= {"errorResult": self.error, "errors": [self.error]}
        billed = 0 if dry or self.error else self.plan.bytes_billed
        query: dict[str, Any] = {
            "totalBytesProcessed": str(self.plan.bytes_processed),
            "totalBytesBilled": str(billed),
            "totalSlotMs": "0" if dry else "12",
            "cacheHit": False,
            "statementType": "SELECT",
            "schema": {"fields": self.plan.fields},
            "referencedTables": [
                {"projectId": project, "datasetId": dataset, "tableId": table}
                for dataset, table in self.plan.referenced[:NAMED_AT_MOST]
            ],
        }
        configuration = {**self.configuration, "jobType": "QUERY"}
        if not dry:
            destination = {"projectId": project, "datasetId": RESULTS, "tableId": self.number}
            configuration["query"] = {**configuration["query"], "destinationTable": destination}
        return {
            "kind": "bigquery#job",
            "id": f"{project}:{self.location}.{self.number}",
            "jobReference": {"projectId": project, "jobId": self.number, "location": self.location},
            "configuration": configuration,
            "status": status,
            "statistics": {
                "creationTime": "1",
                "totalBytesProcessed": str(self.plan.bytes_processed),
                "totalSlotMs": query["totalSlotMs"],
                "query": query,
            },
        }


class Jobs:
    """All jobs of one warehouse."""

    def __init__(self, warehouse: Warehouse, faults: Faults) -> None:
        self._warehouse = warehouse
        self._planner = Planner(warehouse)
        self._faults = faults
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def insert(self, configuration: dict[str, Any], reference: dict[str, Any]) -> Job:
        """Takes a job and runs it."""
        location = reference.get("location") or self._warehouse.location
        number = reference.get("jobId") or uuid.uuid4().hex
        plan = self._planner.plan(configuration["query"], location)
        dry = bool(configuration.get("dryRun"))
        rows, error = (pa.table({}), None) if dry else self._run(configuration["query"], plan)
        seconds = 0.0 if dry else self._faults.job_seconds
        job = Job(number, location, configuration, plan, rows, time.monotonic() + seconds, error)
        if not dry:
            with self._lock:
                self._jobs[number] = job
        return job

    def _run(self, query: dict[str, Any], plan: Plan) -> tuple[pa.Table, dict[str, str] | None]:
        asked = self._faults.next_job()
        if asked:
            return pa.table({}), {"reason": asked[0], "message": asked[1]}
        limit = query.get("maximumBytesBilled")
        if limit and plan.bytes_billed > int(limit):
            message = (
                f"Query exceeded limit for bytes billed: {limit}. {plan.bytes_billed} or higher required."
            )
            return pa.table({}), {"reason": "bytesBilledLimitExceeded", "message": message}
        try:
            return self._warehouse.query(plan.sql), None
        except duckdb.Error as error:
            return pa.table({}), {"reason": "invalidQuery", "message": str(error)}

    def get(self, number: str) -> Job:
        """A job that was taken."""
        with self._lock:
            if number not in self._jobs:
                raise ServiceError(404, "notFound", f"Not found: Job {self._warehouse.project}:{number}")
            return self._jobs[number]

    def all(self) -> list[Job]:
        """Every job that was run."""
        with self._lock:
            return list(self._jobs.values())

    def rows(self, dataset: str, table: str) -> pa.Table:
        """Rows of a result, or of a table as it is now."""
        if dataset == RESULTS:
            return self.get(table).rows
        return self._warehouse.query(f'SELECT * FROM "{self._warehouse.version(dataset, table, None)}"')
