"""BigQuery's REST API over HTTP on loopback."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa

from tests.components.data_processing.bigquery.server.faults import Faults, ServiceError
from tests.components.data_processing.bigquery.server.field_types import Field, cell
from tests.components.data_processing.bigquery.server.jobs import RESULTS, Job, Jobs
from tests.components.data_processing.bigquery.server.warehouse import Warehouse

ROWS_A_PAGE = 10_000


class RestApi:
    """The methods that Google's client calls, by name."""

    def __init__(self, warehouse: Warehouse, jobs: Jobs, faults: Faults) -> None:
        self._warehouse = warehouse
        self._jobs = jobs
        self._faults = faults

    def answer(self, verb: str, path: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        parts = path.strip("/").split("/")
        match (verb, parts):
            case ("POST", ["jobs"]):
                return self._insert(body)
            case ("GET", ["jobs", number]):
                self._faults.note("jobs.get", query)
                return self._jobs.get(number).resource(self._warehouse.project)
            case ("POST", ["jobs", number, "cancel"]):
                return self._cancel(number)
            case ("POST", ["queries"]):
                return self._query(body)
            case ("GET", ["queries", number]):
                self._faults.note("jobs.getQueryResults", query)
                return self._results(self._jobs.get(number), query)
            case ("GET", ["datasets", dataset, "tables", table, *rest]):
                return self._table(dataset, table, query, listed=rest == ["data"])
        raise ServiceError(404, "notFound", f"Not found: {verb} {path}")

    def _insert(self, body: dict[str, Any]) -> dict[str, Any]:
        self._faults.note("jobs.insert", body)
        job = self._jobs.insert(body["configuration"], body.get("jobReference", {}))
        return job.resource(self._warehouse.project)

    def _cancel(self, number: str) -> dict[str, Any]:
        self._faults.note("jobs.cancel", {"job": number})
        job = self._jobs.get(number)
        job.cancelled, job.error = True, {"reason": "stopped", "message": "Job execution was cancelled"}
        return {"kind": "bigquery#jobCancelResponse", "job": job.resource(self._warehouse.project)}

    def _table(self, dataset: str, table: str, query: dict[str, str], *, listed: bool) -> dict[str, Any]:
        if not listed:
            self._faults.note("tables.get", {"dataset": dataset, "table": table})
            return self._warehouse.resource(dataset, table)
        self._faults.note("tabledata.list", query)
        result = dataset == RESULTS
        fields = self._jobs.get(table).plan.fields if result else self._warehouse.find(dataset, table).fields
        return _page(self._jobs.rows(dataset, table), fields, query)

    def _query(self, body: dict[str, Any]) -> dict[str, Any]:
        self._faults.note("jobs.query", body)
        names = ("query", "queryParameters", "maximumBytesBilled", "defaultDataset")
        configuration = {"query": {name: body[name] for name in names if name in body}}
        configuration |= {name: body[name] for name in ("dryRun", "labels") if name in body}
        job = self._jobs.insert(configuration, {"location": body.get("location", "")})
        if body.get("dryRun"):
            statistics = job.resource(self._warehouse.project)["statistics"]
            return {"jobComplete": True, "schema": statistics["query"]["schema"], **statistics}
        return self._results(job, {"maxResults": str(body.get("maxResults", ROWS_A_PAGE))})

    def _results(self, job: Job, query: dict[str, str]) -> dict[str, Any]:
        until = time.monotonic() + self._faults.longest_wait_s
        while not job.done and time.monotonic() < until:
            time.sleep(0.01)
        resource = job.resource(self._warehouse.project)
        answer = {"kind": "bigquery#getQueryResultsResponse", "jobReference": resource["jobReference"]}
        if not job.done:
            return {**answer, "jobComplete": False}
        if job.error:
            raise ServiceError(400, job.error["reason"], job.error["message"])
        return {
            **answer,
            "jobComplete": True,
            "schema": {"fields": job.plan.fields},
            "totalBytesProcessed": str(job.plan.bytes_processed),
            **_page(job.rows, job.plan.fields, query),
        }


def _page(rows: pa.Table, fields: list[Field], query: dict[str, str]) -> dict[str, Any]:
    start = int(query.get("pageToken") or query.get("startIndex") or 0)
    count = min(int(query.get("maxResults") or ROWS_A_PAGE), ROWS_A_PAGE)
    page = rows.slice(start, count).to_pylist()
    answer: dict[str, Any] = {"totalRows": str(rows.num_rows)}
    if page:
        answer["rows"] = [{"f": [cell(row[field["name"]], field) for field in fields]} for row in page]
    if count and start + count < rows.num_rows:
        answer["pageToken"] = str(start + count)
    return answer


def serve_rest(api: RestApi, port: int = 0) -> ThreadingHTTPServer:
    """A server on loopback that answers through `api`; it is not started yet."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Says nothing."""

        def _respond(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            path = unquote(parts.path.split("/projects/", 1)[-1]).partition("/")[2]
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, answer = 200, api.answer(self.command, path, query, json.loads(content or b"{}"))
            except ServiceError as error:
                described = {"reason": error.reason, "message": error.message, "domain": "global"}
                status = error.status
                answer = {"error": {"code": status, "message": error.message, "errors": [described]}}
            document = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        do_GET = _respond  # noqa: N815
        do_POST = _respond  # noqa: N815

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
