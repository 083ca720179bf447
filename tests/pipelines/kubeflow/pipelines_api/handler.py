"""Reads requests and writes answers."""

from __future__ import annotations

import email.policy
import json
import time
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.pipelines.kubeflow.pipelines_api.faults import Fault, Request
from tests.pipelines.kubeflow.pipelines_api.lists import page
from tests.pipelines.kubeflow.pipelines_api.refusals import RefusedError, invalid, not_found

if TYPE_CHECKING:
    from tests.pipelines.kubeflow.pipelines_api.server import PipelinesServer

_API = ["apis", "v2beta1"]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: ClassVar[PipelinesServer]

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, *words: Any) -> None:
        """Tests say what they want to see."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        segments = [unquote(each) for each in parts.path.strip("/").split("/")]
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = [*self.owner.path, *_API]
        inside = segments[: len(path)] == path
        rest = segments[len(path) :] if inside else segments
        what = f"{self.command} /{_kind(rest)}"
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        faults = self.owner.faults
        fault = faults.note(Request(what=what, token=token, query=query))
        if fault is not None and fault.silence_s:
            time.sleep(fault.silence_s)
        if fault is not None and not fault.done:
            self._fail(fault)
            return
        faults.hook(faults.before, what)
        try:
            self._require_known(token, inside=inside)
            with self.owner.objects.lock:
                answer = self._answer(rest, query, content)
            status = 200
        except RefusedError as error:
            answer, status = error.body, error.status
        faults.hook(faults.after, what)
        if fault is not None:
            self._fail(fault)
            return
        self._write(status, json.dumps(answer).encode(), "application/json")

    def _fail(self, fault: Fault) -> None:
        if not fault.status:
            self.close_connection = True
            self.connection.close()
            return
        self._write(fault.status, fault.body, fault.kind, fault.location)

    def _write(self, status: int, content: bytes, kind: str, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(content)

    def _require_known(self, token: str, *, inside: bool) -> None:
        if not inside:
            raise RefusedError(404, "Not Found")
        if self.owner.tokens and token not in self.owner.tokens:
            raise RefusedError(401, "Unauthenticated: request header error: there is no user identity header")

    def _answer(self, rest: list[str], query: dict[str, str], content: bytes) -> Any:
        match (self.command, *rest):
            case ("GET", "healthz"):
                return {"multi_user": True} if self.owner.objects.many_users else {}
            case (_, "pipelines", *below):
                return self._pipelines(below, query, content)
            case (_, "experiments", *below):
                return self._experiments(below, query, content)
            case (_, "runs", *below):
                return self._runs(below, query, content)
            case (_, "recurringruns", *below):
                return self._recurring_runs(below, query, content)
        raise RefusedError(404, "Not Found")

    def _pipelines(self, below: list[str], query: dict[str, str], content: bytes) -> Any:
        kept = self.owner.objects
        match (self.command, *below):
            case ("POST",):
                return kept.create_pipeline(_json(content))
            case ("GET", "names", name):
                # Shared pipelines are there for all.
                found = kept.pipeline_named(name, query.get("namespace", ""))
                if found is None:
                    raise not_found("Pipeline", name)
                return found
            case ("POST", "upload_version"):
                return kept.upload_version(_uploaded(self.headers["Content-Type"], content), query)
            case ("GET", pipeline_id, "versions"):
                kept.get(kept.pipelines, "Pipeline", pipeline_id)
                found_there = [each for each in kept.versions.values() if each["pipeline_id"] == pipeline_id]
                return page("pipeline_versions", found_there, query)
        raise RefusedError(404, "Not Found")

    def _experiments(self, below: list[str], query: dict[str, str], content: bytes) -> Any:
        kept = self.owner.objects
        match (self.command, *below):
            case ("POST",):
                return kept.create_experiment(_json(content))
            case ("GET",):
                return page(
                    "experiments", kept.in_namespace(kept.experiments, query.get("namespace", "")), query
                )
        raise RefusedError(404, "Not Found")

    def _runs(self, below: list[str], query: dict[str, str], content: bytes) -> Any:
        kept = self.owner.objects
        match (self.command, *below):
            case ("POST",):
                return kept.create_run(_json(content))
            case ("GET",):
                return page("runs", kept.in_namespace(kept.runs, query.get("namespace", "")), query)
            case ("GET", run_id):
                run = kept.get(kept.runs, "Run", run_id)
                if self.owner.story:
                    run |= self.owner.story.popleft()
                return run
        raise RefusedError(404, "Not Found")

    def _recurring_runs(self, below: list[str], query: dict[str, str], content: bytes) -> Any:
        kept = self.owner.objects
        match (self.command, *below):
            case ("POST",):
                return kept.create_recurring_run(_json(content))
            case ("GET",):
                found = kept.in_namespace(kept.recurring_runs, query.get("namespace", ""))
                return page("recurringRuns", found, query)
            case ("POST", switched):
                name, _, mode = switched.partition(":")
                if mode in {"enable", "disable"}:
                    return kept.switch(name, enabled=mode == "enable")
            case ("DELETE", name):
                kept.get(kept.recurring_runs, "RecurringRun", name)
                del kept.recurring_runs[name]
                return {}
        raise RefusedError(404, "Not Found")


def _kind(rest: list[str]) -> str:
    """A request's path with an ID in place of each id."""
    told = []
    for each in rest:
        name, separator, verb = each.partition(":")
        told.append(f"ID{separator}{verb}" if len(name) == 36 and name.count("-") == 4 else each)
    if told[:2] == ["pipelines", "names"]:
        told[2:] = ["NAME"]
    return "/".join(told)


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise invalid("the body is not JSON") from None


def _uploaded(kind: str, content: bytes) -> bytes:
    """The one file of a multipart form."""
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    form = BytesParser(policy=email.policy.HTTP).parsebytes(head + content)
    parts = [each for each in form.iter_parts() if each.get_param("name", header="content-disposition")]
    if len(parts) != 1 or parts[0].get_param("name", header="content-disposition") != "uploadfile":
        raise invalid("the form must hold one file, uploadfile")
    if not str(parts[0].get_filename()).endswith((".yaml", ".yml", ".json")):
        raise invalid("unexpected pipeline file format")
    file = parts[0].get_payload(decode=True)
    assert isinstance(file, bytes)
    return file
