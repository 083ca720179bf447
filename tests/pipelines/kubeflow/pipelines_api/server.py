"""The Kubeflow Pipelines API, v2beta1, on this machine: real HTTP, kept state, faults on request.

In a test: `with PipelinesServer() as server: connect(Address(url=server.url, pages_url=server.url))`.
"""

from __future__ import annotations

import ssl
import threading
from collections import deque
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.pipelines.kubeflow.pipelines_api.faults import Faults
from tests.pipelines.kubeflow.pipelines_api.handler import Handler
from tests.pipelines.kubeflow.pipelines_api.objects import Objects


class PipelinesServer:
    """One API server. What it keeps outlives a stop."""

    def __init__(self, *, path: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.objects = Objects()
        self.faults = Faults()
        self.tokens: set[str] = set()
        """That are known; with none, nobody is asked for one."""
        self.story: deque[dict[str, Any]] = deque()
        """What becomes of a run, one change each time that it is looked at."""
        self.path = [each for each in path.split("/") if each]
        self._tls = tls
        self._port = 0
        self._http: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}" + "".join(
            f"/{each}" for each in self.path
        )

    def start(self) -> None:
        """Listens: on the port it had before, if it did."""
        bound = type("Bound", (Handler,), {"owner": self})
        self._http = _Listener(("127.0.0.1", self._port), bound)
        if self._tls:
            self._http.socket = self._tls.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._port = self._http.server_port
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        if self._http is None or self._thread is None:
            return
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._http = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break are what is tested."""
