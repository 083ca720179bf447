"""The requests a dispatcher may make, each repeated as long as that is safe and may help."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from components.execution.jobs import connection
from components.execution.jobs.order import Cluster
from components.execution.jobs.patience import CLOCK, PATIENCE, Clock, Patience, Pauses
from components.execution.jobs.refusals import (
    ClusterDeniedError,
    ClusterUnreachableError,
    RefusedRequestError,
    message_of,
    refusal,
)
from components.execution.jobs.template import TEMPLATE_CONFIG_MAP, TEMPLATE_KEY

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from urllib3 import BaseHTTPResponse

Job = Mapping[str, Any]
"""A Job or pod as the API server writes it."""
_LARGEST_ANSWER = 8 << 20
_PASSING = {408, 429, 500, 502, 503, 504}
_FOREVER = float("inf")


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What the API server has under a Job's name.

    Attributes:
        job: the Job, or None.
        version: of everything it knows, to watch from.
    """

    job: Job | None
    version: str


class ClusterClient:
    """One namespace of one cluster. For one thread."""

    def __init__(
        self, api: ApiClient, namespace: str, *, patience: Patience = PATIENCE, clock: Clock = CLOCK
    ) -> None:
        from kubernetes.client import BatchV1Api, CoreV1Api

        self.patience = patience
        self.clock = clock
        self.namespace = namespace
        self._api = api
        self._batch = BatchV1Api(api)
        self._core = CoreV1Api(api)

    def with_patience(self, patience: Patience) -> ClusterClient:
        """The same client, waiting otherwise."""
        return ClusterClient(self._api, self.namespace, patience=patience, clock=self.clock)

    def template(self) -> str:
        """Text of the site's Job template.

        Raises:
            ClusterError: it cannot be had.
        """
        found = self._ask(
            lambda: self._core.read_namespaced_config_map(TEMPLATE_CONFIG_MAP, self.namespace, **self._terms),
            what=f"read configmap {TEMPLATE_CONFIG_MAP}",
        )
        text = (found.get("data") or {}).get(TEMPLATE_KEY)
        return text if isinstance(text, str) else ""

    def create(self, job: Job) -> Job | None:
        """Creates the Job; None when one of its name is there.

        Raises:
            ClusterError: it cannot be created.
        """
        try:
            return self._ask(
                lambda: self._batch.create_namespaced_job(
                    self.namespace, job, field_validation="Strict", **self._terms
                ),
                what="create jobs",
                told={409},
            )
        except RefusedRequestError:
            return None

    def sight(self, name: str, *, patient: bool = False, until: float = _FOREVER) -> Sighting:
        """What is there under `name` now.

        Args:
            name: of the Job.
            patient: whether a refusal is waited out for a while, for a Job that is under way.
            until: time of the clock after which nothing is repeated.

        Raises:
            ClusterError: it cannot be had.
        """
        found = self._ask(
            lambda: self._batch.list_namespaced_job(
                self.namespace, field_selector=f"metadata.name={name}", **self._terms
            ),
            what="list jobs",
            patient=patient,
            until=until,
        )
        jobs = [job for job in found.get("items") or () if (job.get("metadata") or {}).get("name") == name]
        version = str((found.get("metadata") or {}).get("resourceVersion") or "")
        return Sighting(job=jobs[0] if jobs else None, version=version)

    @contextlib.contextmanager
    def changes(self, name: str, version: str, seconds: float) -> Iterator[Iterator[Mapping[str, Any]]]:
        """Opens a watch on one Job: its events as they come, until `seconds` have passed.

        Raises:
            RefusedRequestError: the API server answers with an error.
            urllib3.exceptions.HTTPError: the connection is lost, before or in the middle of an event.
        """
        with _plain_errors():
            answer = self._batch.list_namespaced_job(
                self.namespace,
                field_selector=f"metadata.name={name}",
                resource_version=version,
                watch=True,
                allow_watch_bookmarks=True,
                timeout_seconds=max(1, round(seconds)),
                _preload_content=False,
                _request_timeout=(self.patience.connect_s, seconds + self.patience.connect_s),
            )
        try:
            yield _events(answer)
        finally:
            # A watch is left in the middle: the connection is of no further use.
            answer.close()

    def delete(self, job: Job, propagation: Literal["Background", "Foreground"]) -> None:
        """Deletes that very Job and its pods; nothing if it is gone or another has its name.

        Raises:
            ClusterError: it cannot be deleted.
        """
        metadata = job["metadata"]
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {"uid": metadata["uid"]},
        }
        with contextlib.suppress(RefusedRequestError):
            self._ask(
                lambda: self._batch.delete_namespaced_job(
                    metadata["name"], self.namespace, body=options, **self._terms
                ),
                what="delete jobs",
                told={404, 409},
                patient=True,
            )

    def pods(self, job: Job) -> list[Job] | None:
        """The pods of that very Job; None where they may not be listed.

        Raises:
            ClusterError: the API server does not answer.
        """
        selector = f"batch.kubernetes.io/controller-uid={job['metadata']['uid']}"
        try:
            found = self._ask(
                lambda: self._core.list_namespaced_pod(
                    self.namespace, label_selector=selector, **self._terms
                ),
                what="list pods",
                told={403},
            )
        except RefusedRequestError:
            return None
        return [pod for pod in found.get("items") or () if isinstance(pod, dict)]

    @property
    def _terms(self) -> dict[str, Any]:
        # Answers are read here: the client's models refuse what a newer API server adds.
        return {
            "_preload_content": False,
            "_request_timeout": (self.patience.connect_s, self.patience.read_s),
        }

    def _ask(
        self,
        request: Callable[[], BaseHTTPResponse],
        *,
        what: str,
        told: frozenset[int] | set[int] = frozenset(),
        patient: bool = False,
        until: float = _FOREVER,
    ) -> dict[str, Any]:
        """The answer to a request that may be sent twice.

        Raises:
            RefusedRequestError: an answer whose status is in `told`.
            ClusterError: any other refusal, or none came in time.
        """
        from urllib3.exceptions import HTTPError

        pauses = Pauses(self.patience, self.clock)
        began = self.clock.now()
        while True:
            retry_after_s = 0.0
            try:
                with _plain_errors():
                    return _document(request(), self.patience.read_s, self.clock)
            except RefusedRequestError as error:
                if error.status in told:
                    raise
                end: Exception = refusal(error, of=what)
                limit_s, retry_after_s = self._waited_for(error, patient=patient), error.retry_after_s
                if error.status in _PASSING or error.status == 0:
                    end = _unreachable(what, f"HTTP {error.status}")
            except (HTTPError, ValueError) as error:
                end, limit_s = _unreachable(what, type(error).__name__), self.patience.unreachable_s
            except OSError as error:
                # The token's file, between two of its versions; the connection's errors are urllib3's.
                end = ClusterDeniedError(f"no token to {what}: {error}", disclosed="no token")
                limit_s = self.patience.denied_s
            if self.clock.now() >= min(until, began + limit_s):
                raise end
            pauses.pause(at_least_s=retry_after_s, until=min(until, began + limit_s))

    def _waited_for(self, error: RefusedRequestError, *, patient: bool) -> float:
        """Seconds for which a refusal is not believed."""
        if error.status in _PASSING:
            return self.patience.unreachable_s
        if error.status in {0, 401} or (error.status == 403 and patient):
            return self.patience.denied_s
        return 0.0


def open_cluster(cluster: Cluster, *, patience: Patience = PATIENCE, clock: Clock = CLOCK) -> ClusterClient:
    """A client of the namespace where a site's Jobs are made; nothing is sent yet.

    Raises:
        UsageError: the Kubernetes client is not installed, or the kubeconfig cannot be used.
    """
    return ClusterClient(
        connection.connect(cluster.kubeconfig), cluster.namespace, patience=patience, clock=clock
    )


def _unreachable(what: str, how: str) -> ClusterUnreachableError:
    return ClusterUnreachableError(f"no answer when asked to {what} ({how})", disclosed="API server")


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Takes the client's own error apart: its text holds headers and body."""
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        headers = error.headers or {}
        try:
            retry_after_s = max(0.0, float(headers.get("Retry-After", 0)))
        except ValueError:
            retry_after_s = 0.0
        raise RefusedRequestError(
            error.status or 0, message_of(error.body), retry_after_s=retry_after_s
        ) from None


def _document(answer: BaseHTTPResponse, seconds: float, clock: Clock) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        ValueError: it is none, is too large, or comes too slowly.
    """
    deadline = clock.now() + seconds
    content = bytearray()
    # Closed whatever comes of it: dispatchers ask seldom, and a connection kept may have died meanwhile.
    with contextlib.closing(answer):
        while part := answer.read1(1 << 16):
            content += part
            if len(content) > _LARGEST_ANSWER or clock.now() > deadline:
                raise ValueError("too large or too slow")
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004 - what came is at fault, not a caller
    return document


def _events(answer: BaseHTTPResponse) -> Iterator[Mapping[str, Any]]:
    """Whole lines of a watch as events; the rest of a line that was cut is dropped."""
    rest = bytearray()
    while part := answer.read1(1 << 16):
        rest += part
        *lines, rest = rest.split(b"\n")
        for line in lines:
            event = json.loads(line) if line.strip() else None
            if isinstance(event, dict):
                yield event
        if len(rest) > _LARGEST_ANSWER:
            raise ValueError("an event is too large")
