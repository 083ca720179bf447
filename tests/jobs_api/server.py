"""The Jobs API on this machine: real HTTP with watches, versions, rights, quota and faults.

In a test: `with JobsServer() as server: server.add_namespace("crosscloud-alpha", template)`.
"""

from __future__ import annotations

import copy
import socket
import threading
import uuid
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.jobs_api.access import DISPATCHER, TEMPLATE, Access
from tests.jobs_api.answers import RefusedError
from tests.jobs_api.controller import Controller, labels_of_pods
from tests.jobs_api.faults import Faults
from tests.jobs_api.handler import Handler, break_off
from tests.jobs_api.objects import CONFIG_MAPS, JOBS, Object, Objects
from tests.jobs_api.serving import Certificates, serving_certificates


class JobsServer:
    """One running API server with the cluster behind it, both open to tests."""

    def __init__(self, *, tls: bool = False) -> None:
        self.objects = Objects()
        self.access = Access()
        self.faults = Faults()
        self.controller = Controller(self.objects)
        self.namespaces: set[str] = set()
        self.stopping = threading.Event()
        self.certificates: Certificates | None = serving_certificates() if tls else None
        self._port = 0
        self._http: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.sockets: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """Address of the API server."""
        return f"{'https' if self.certificates else 'http'}://127.0.0.1:{self._port}"

    def add_namespace(self, name: str, template: Mapping[str, Any] | None = None) -> None:
        """Makes a namespace, and the site's Job template in it."""
        self.namespaces.add(name)
        if template is not None:
            text = yaml.safe_dump(dict(template), sort_keys=False)
            config_map = {"metadata": {"name": TEMPLATE}, "data": {"job.yaml": text}}
            self.objects.create(CONFIG_MAPS, name, {"apiVersion": "v1", "kind": "ConfigMap", **config_map})

    def create(self, namespace: str, job: Mapping[str, Any]) -> Object:
        """Creates a Job as a request does, once it is admitted."""
        if namespace not in self.namespaces:
            raise RefusedError(404, f'namespaces "{namespace}" not found')
        with self.objects.changed:
            present = self.jobs(namespace)
            fresh = copy.deepcopy(dict(job))
            # What is there already is told before it is held to a quota.
            if fresh.get("metadata", {}).get("name") not in {each["metadata"]["name"] for each in present}:
                self.access.admit(fresh, len(present))
            fresh["metadata"]["uid"] = str(uuid.uuid4())
            labels_of_pods(fresh)
            fresh["spec"].setdefault("completionMode", "NonIndexed")
            fresh["spec"].setdefault("suspend", False)
            fresh["status"] = {}
            created = self.objects.create(JOBS, namespace, fresh)
        self.controller.admitted(created)
        return created

    def job(self, namespace: str, name: str) -> Object:
        """The Job as it stands."""
        return self.objects.get(JOBS, namespace, name)

    def jobs(self, namespace: str) -> list[Object]:
        """All Jobs as they stand."""
        return self.objects.list(JOBS, namespace)

    def write_kubeconfig(
        self, path: Path, *, token: str = DISPATCHER, token_file: Path | None = None
    ) -> Path:
        """Writes what opens this cluster."""
        cluster: dict[str, Any] = {"server": self.url}
        if self.certificates:
            cluster["certificate-authority-data"] = self.certificates.authority_base64
        user = {"tokenFile": str(token_file)} if token_file else {"token": token}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "site",
            "clusters": [{"name": "site", "cluster": cluster}],
            "users": [{"name": "dispatcher", "user": user}],
            "contexts": [{"name": "site", "context": {"cluster": "site", "user": "dispatcher"}}],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o600)
        return path

    def start(self) -> None:
        """Listens: on the port it had before, if it did."""
        self.stopping = threading.Event()
        server = self

        class Bound(Handler):
            owner = server

        self._http = _Listener(("127.0.0.1", self._port), Bound, self)
        self._port = self._http.server_port
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stops listening and breaks every connection, as a restart does; objects stay."""
        self.stopping.set()
        if self._http is None or self._thread is None:
            return
        self._http.shutdown()
        for open_socket in list(self.sockets):
            break_off(open_socket)
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.controller.close()
        self.stop()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], owner: JobsServer
    ) -> None:
        self._owner = owner
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        accepted, address = super().get_request()
        if self._owner.certificates:
            accepted = self._owner.certificates.context.wrap_socket(
                accepted, server_side=True, do_handshake_on_connect=False
            )
        self._owner.sockets.add(accepted)
        return accepted, address

    def shutdown_request(self, request: Any) -> None:
        self._owner.sockets.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break are what is tested."""
