"""One request to the API server: whose it is, whether it may, and what is answered."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.jobs_api.answers import RefusedError
from tests.jobs_api.faults import Fault, Request
from tests.jobs_api.objects import CONFIG_MAPS, JOBS, PODS, Object, labelled

if TYPE_CHECKING:
    from tests.jobs_api.server import JobsServer

_PATHS = {
    JOBS: re.compile(r"/apis/batch/v1/namespaces/(?P<namespace>[^/]+)/jobs(?:/(?P<name>[^/]+))?"),
    PODS: re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods(?:/(?P<name>[^/]+))?"),
    CONFIG_MAPS: re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/configmaps(?:/(?P<name>[^/]+))?"),
}
_OTHER_UID = (
    f'Operation cannot be fulfilled on {JOBS} "{{name}}": the UID in the precondition ({{wanted}}) does not '
    "match the UID in record ({uid}). The object might have been deleted and then recreated"
)
_KINDS = {JOBS: ("batch/v1", "JobList"), PODS: ("v1", "PodList"), CONFIG_MAPS: ("v1", "ConfigMapList")}


def break_off(open_socket: socket.socket) -> None:
    """Ends a connection without a goodbye."""
    with contextlib.suppress(OSError):
        open_socket.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """Speaks for `owner`; one is made for each connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: JobsServer

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_PUT = do_PATCH = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        try:
            request = self._request()
            fault = self.owner.faults.note(request)
            if fault is not None and not self._misbehave(fault, request):
                return
            self.owner.access.check(
                request.token, request.verb, request.resource, request.namespace, request.name
            )
            if request.verb == "watch":
                self._watch(request, fault)
                return
            code, document = self._do(request, body)
            if fault is not None and fault.how == "unanswered":
                break_off(self.connection)
                return
            self._send(code, document)
        except RefusedError as error:
            self._send(error.code, error.status, retry_after_s=error.retry_after_s)

    def _request(self) -> Request:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            token = ""
        for resource, pattern in _PATHS.items():
            found = pattern.fullmatch(parts.path)
            if found:
                return Request(
                    verb=self._verb(query, found["name"]),
                    resource=resource,
                    namespace=found["namespace"],
                    name=found["name"] or "",
                    query=query,
                    token=token,
                )
        raise RefusedError(404, "the server could not find the requested resource")

    def _verb(self, query: Mapping[str, str], name: str | None) -> str:
        if self.command != "GET":
            return {"POST": "create", "DELETE": "delete", "PUT": "update", "PATCH": "patch"}[self.command]
        if name:
            return "get"
        return "watch" if query.get("watch", "").lower() in {"true", "1"} else "list"

    def _misbehave(self, fault: Fault, request: Request) -> bool:
        """Does what can be done before the request is; whether to go on."""
        if fault.how == "refused" and fault.error is not None:
            raise fault.error
        if fault.how == "redirected":
            self._send_bytes(302, b"", "text/plain", {"Location": fault.location})
            return False
        if fault.how == "delayed":
            self.owner.stopping.wait(fault.seconds)
        if fault.how == "dropped":
            self.owner.stopping.wait(fault.seconds)
            break_off(self.connection)
            self.close_connection = True
            return False
        if fault.how == "garbled":
            self._send_bytes(200, fault.body, "text/html")
            return False
        return True

    def _do(self, request: Request, body: bytes) -> tuple[int, Object]:
        objects = self.owner.objects
        if request.verb == "list":
            return 200, self._list(request)
        if request.verb == "get":
            return 200, objects.get(request.resource, request.namespace, request.name)
        if request.verb == "create" and request.resource == JOBS:
            return 201, self._create(request, body)
        if request.verb == "delete" and request.resource == JOBS:
            return 200, self._delete(request, body)
        raise RefusedError(405, "the server does not allow this method on the requested resource")

    def _list(self, request: Request) -> Object:
        api_version, kind = _KINDS[request.resource]
        with self.owner.objects.changed:
            version = self.owner.objects.version
            found = self.owner.objects.list(request.resource, request.namespace)
        found = [each for each in found if _selected(each, request)]
        return {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"resourceVersion": str(version)},
            "items": found,
        }

    def _create(self, request: Request, body: bytes) -> Object:
        job = _parsed(body)
        if job.get("metadata", {}).get("namespace", request.namespace) != request.namespace:
            raise RefusedError(400, "the namespace of the object does not match the namespace on the request")
        return self.owner.create(request.namespace, job)

    def _delete(self, request: Request, body: bytes) -> Object:
        options = _parsed(body) if body else {}
        with self.owner.objects.changed:
            job = self.owner.job(request.namespace, request.name)
            wanted = options.get("preconditions", {}).get("uid")
            uid = job["metadata"]["uid"]
            if wanted and wanted != uid:
                raise RefusedError(409, _OTHER_UID.format(name=request.name, wanted=wanted, uid=uid))
            # Without a word, pods of a Job of batch/v1 are left running.
            return self.owner.controller.delete(job, options.get("propagationPolicy", "Orphan"))

    def _watch(self, request: Request, fault: Fault | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json;stream=watch")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for line in self._lines(request, fault):
                self._chunk(line)
            self._chunk(b"")
        except OSError:
            self.close_connection = True

    def _lines(self, request: Request, fault: Fault | None) -> Iterable[bytes]:
        if fault is not None and fault.how == "expired" and fault.error is not None:
            yield _event("ERROR", fault.error.status)
            return
        version = int(request.query.get("resourceVersion") or 0)
        seconds = float(request.query.get("timeoutSeconds") or 300)
        told_at = time.monotonic()
        changes = self.owner.objects.follow(
            request.resource, request.namespace, version, seconds, self.owner.stopping
        )
        try:
            for change in changes:
                if change is None:
                    if request.query.get("allowWatchBookmarks") and time.monotonic() - told_at > 0.3:
                        told_at = time.monotonic()
                        mark = {"metadata": {"resourceVersion": str(self.owner.objects.version)}}
                        yield _event("BOOKMARK", {"kind": "Job", "apiVersion": "batch/v1", **mark})
                    continue
                if not _selected(change.object, request):
                    continue
                line = _event(change.kind, change.object)
                if fault is not None and fault.how == "cut":
                    yield line[: len(line) // 2]
                    break_off(self.connection)
                    return
                yield line
        except RefusedError as error:
            yield _event("ERROR", error.status)

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def _send(self, code: int, document: Mapping[str, Any], *, retry_after_s: float = 0.0) -> None:
        headers = {"Retry-After": f"{retry_after_s:g}"} if retry_after_s else {}
        self._send_bytes(code, json.dumps(document).encode(), "application/json", headers)

    def _send_bytes(
        self, code: int, content: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _parsed(body: bytes) -> Object:
    try:
        document = json.loads(body)
    except ValueError:
        raise RefusedError(400, "the body of the request is not JSON") from None
    if not isinstance(document, dict):
        raise RefusedError(400, "the body of the request is not an object")
    return document


def _selected(each: Object, request: Request) -> bool:
    field = request.query.get("fieldSelector", "")
    if field and f"metadata.name={each['metadata']['name']}" != field:
        return False
    return labelled(each, request.query.get("labelSelector", ""))


def _event(kind: str, of: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": of}).encode() + b"\n"
