"""The requests a dispatcher may make, each repeated as long as that is safe and may help."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from components.execution.jobs import connection
from components.execution.jobs.answers import Job, as_job, as_kind, as_list, document, events, plain_errors
from components.execution.jobs.order import Cluster
from components.execution.jobs.patience import CLOCK, PATIENCE, Clock, Patience, Pauses
from components.execution.jobs.refusals import (
    ClusterDeniedError,
    ClusterUnreachableError,
    RefusedRequestError,
    refusal,
)
from components.execution.jobs.template import TEMPLATE_CONFIG_MAP, TEMPLATE_KEY

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from urllib3 import BaseHTTPResponse

Answer = TypeVar("Answer")
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
            read=lambda told: as_kind(told, "ConfigMap"),
            what=f"read configmap {TEMPLATE_CONFIG_MAP}",
        )
        data = found.get("data")
        text = data.get(TEMPLATE_KEY) if isinstance(data, dict) else None
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
                read=as_job,
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
        found, version = self._ask(
            lambda: self._batch.list_namespaced_job(
                self.namespace, field_selector=f"metadata.name={name}", **self._terms
            ),
            read=lambda told: as_list(told, "JobList"),
            what="list jobs",
            patient=patient,
            until=until,
        )
        jobs = [job for job in found if job["metadata"]["name"] == name]
        return Sighting(job=jobs[0] if jobs else None, version=version)

    @contextlib.contextmanager
    def changes(self, name: str, version: str, seconds: float) -> Iterator[Iterator[Mapping[str, Any]]]:
        """Opens a watch on one Job: its events as they come, until `seconds` have passed.

        Raises:
            RefusedRequestError: the API server answers with an error.
            urllib3.exceptions.HTTPError: the connection is lost, before or in the middle of an event.
        """
        with plain_errors():
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
            yield events(answer)
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
                read=lambda told: told,
                what="delete jobs",
                told={404, 409},
                patient=True,
            )

    def pods(self, job: Job, *, until: float = _FOREVER) -> list[Job] | None:
        """The pods of that very Job; None where they may not be listed.

        Args:
            job: whose.
            until: time of the clock after which nothing is repeated.

        Raises:
            ClusterError: the API server does not answer.
        """
        selector = f"batch.kubernetes.io/controller-uid={job['metadata']['uid']}"
        try:
            found, _ = self._ask(
                lambda: self._core.list_namespaced_pod(
                    self.namespace, label_selector=selector, **self._terms
                ),
                read=lambda told: as_list(told, "PodList"),
                what="list pods",
                told={403},
                until=until,
            )
        except RefusedRequestError:
            return None
        return found

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
        read: Callable[[dict[str, Any]], Answer],
        what: str,
        told: Collection[int] = (),
        patient: bool = False,
        until: float = _FOREVER,
    ) -> Answer:
        """The answer to a request that may be sent twice.

        Args:
            request: sends it.
            read: takes what is needed from the answer; its ValueError says that this is no API server's.
            what: is asked for, two or three words.
            told: statuses that the caller understands.
            patient: whether a refusal is not believed at once.
            until: time of the clock after which nothing is repeated.

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
                with plain_errors():
                    return read(document(request(), self.patience.read_s, self.clock))
            except RefusedRequestError as error:
                if error.status in told:
                    raise
                end: Exception = refusal(error, of=what)
                limit_s, retry_after_s = self._waited_for(error, patient=patient), error.retry_after_s
                if error.status == 0:
                    end = _unreachable(what, "TLS", disclosed="the certificate of the API server")
                elif _passes(error.status):
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
        if _passes(error.status):
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


def _passes(status: int) -> bool:
    """Whether an answer is none of the API server's own making, or one for the moment.

    Redirections and pages of errors come from what stands before an API server.
    """
    return status in {408, 429} or 300 <= status < 400 or status >= 500


def _unreachable(what: str, how: str, *, disclosed: str = "API server") -> ClusterUnreachableError:
    return ClusterUnreachableError(f"no answer when asked to {what} ({how})", disclosed=disclosed)
