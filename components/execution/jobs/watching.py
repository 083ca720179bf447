"""Follows one Job to its end, through lost connections, restarts of the API server and rotated tokens.

Every watch begins with a list, so that whatever was missed in between is seen, and an expired version is
of no consequence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.execution import progress
from components.execution.jobs.answers import Job, is_well_formed
from components.execution.jobs.client import ClusterClient
from components.execution.jobs.ends import (
    JobEnd,
    end_reason,
    has_started,
    image_trouble,
    is_finished,
    is_leaving,
)
from components.execution.jobs.order import JobOrder
from components.execution.jobs.patience import Pauses
from components.execution.jobs.refusals import ClusterError, RefusedRequestError, refusal

_DELETED = "evicted: the Job was deleted"


def watch_to_end(client: ClusterClient, order: JobOrder, job: Job) -> JobEnd:
    """How the Job ended. A Job that does not start, has no image or keeps no deadline is cancelled.

    Args:
        client: of the Job's cluster.
        order: that the Job does.
        job: as it was created or adopted.

    Raises:
        ClusterError: the cluster is not to be reached or refuses; its `told` is the reason for the roster.
    """
    return _Watch(client, order, job).to_end()


@dataclass
class _Watch:
    client: ClusterClient
    order: JobOrder
    job: Job
    refused_since: float | None = None

    def __post_init__(self) -> None:
        patience = self.client.patience
        self.began = self.client.clock.now()
        self.ends_at = self.began + self.order.deadline_s + patience.start_grace_s + patience.late_s
        self.started = False
        self.no_image_since: float | None = None
        self._fare_well()

    def to_end(self) -> JobEnd:
        patience, clock = self.client.patience, self.client.clock
        while True:
            looked = clock.now()
            sighting = self.client.sight(self.order.job, patient=True, until=self.ends_at)
            end = self._end_of(sighting.job) or self._impatience()
            if end is not None:
                return end
            self._follow(sighting.version)
            # Whatever the watch tells, the Job is not looked at more often than this.
            clock.sleep(max(0.0, looked + patience.first_pause_s - clock.now()))

    def _end_of(self, job: Job | None) -> JobEnd | None:
        if job is None or job["metadata"]["uid"] != self.job["metadata"]["uid"]:
            return JobEnd(reason=_DELETED)
        self.job = job
        # In this order: a Job that has ended is deleted by the cluster when its time to live is over.
        if is_finished(job):
            return JobEnd(reason=end_reason(job, self._last_pods()) if end_reason(job, None) else "")
        return JobEnd(reason=_DELETED) if is_leaving(job) else None

    def _last_pods(self) -> list[Job] | None:
        """Pods of a Job that failed; without them its reason is only less exact."""
        try:
            until = self.client.clock.now() + self.client.patience.read_s
            return self.client.pods(self.job, until=until)
        except ClusterError:
            return None

    def _impatience(self) -> JobEnd | None:
        """Ends what would wait without end."""
        now, patience = self.client.clock.now(), self.client.patience
        reason = ""
        if not self.started:
            pods = self.client.pods(self.job, until=self.ends_at)
            self.started = has_started(self.job, pods)
            if self.started:
                progress.tell(f"{self.order.step}: {self.order.job} runs")
            trouble = image_trouble(pods)
            if not trouble:
                self.no_image_since = None
            elif self.no_image_since is None:
                self.no_image_since = now
            elif now >= self.no_image_since + patience.image_s:
                reason = f"image: {trouble}"
            if not reason and not self.started and now >= self.began + patience.start_grace_s:
                reason = "timeout: did not start"
        if not reason and now >= self.ends_at:
            reason = "timeout: deadline"
        if not reason:
            return None
        # A Job that cannot be deleted ends by its own deadline.
        with contextlib.suppress(ClusterError):
            self.client.delete(self.job, "Background")
        return JobEnd(reason=reason)

    def _follow(self, version: str) -> None:
        """Returns when the Job has changed in a way that matters, the watch is over, or it broke."""
        from urllib3.exceptions import HTTPError

        try:
            self._look_out(version)
        except RefusedRequestError as error:
            self._bear(error)
            self.pauses.pause(at_least_s=error.retry_after_s, until=self.ends_at)
        except (HTTPError, ValueError, OSError):
            # The list that follows tells whether the API server is there, and waits for it.
            self.pauses.pause(until=self.ends_at)
        else:
            self._fare_well()

    def _look_out(self, version: str) -> None:
        patience, clock = self.client.patience, self.client.clock
        longest_s = patience.watch_s if self.started else min(patience.watch_s, patience.look_s)
        until = min(clock.now() + longest_s, self.ends_at)
        with self.client.changes(self.order.job, version, until - clock.now()) as events:
            for event in events:
                if event.get("type") == "ERROR":
                    status = event.get("object")
                    code = status.get("code") if isinstance(status, dict) else None
                    raise RefusedRequestError(code if isinstance(code, int) else 500, "")
                self._fare_well()
                if _matters(event, self.job, started=self.started) or clock.now() >= until:
                    return

    def _fare_well(self) -> None:
        self.pauses = Pauses(self.client.patience, self.client.clock)
        self.refused_since = None

    def _bear(self, error: RefusedRequestError) -> None:
        """A watch that is refused although lists are answered: waited out for a while."""
        if error.status not in {401, 403}:
            return
        now = self.client.clock.now()
        if self.refused_since is None:
            self.refused_since = now
        elif now >= self.refused_since + self.client.patience.denied_s:
            raise refusal(error, of="watch jobs")


def _matters(event: Mapping[str, Any], job: Job, *, started: bool) -> bool:
    """Whether the Job has to be looked at: it ended, is leaving, or may have started."""
    kind, changed = event.get("type"), event.get("object")
    if kind == "BOOKMARK":
        return False
    if kind not in {"ADDED", "MODIFIED"} or not isinstance(changed, dict) or not is_well_formed(changed):
        return True
    if changed["metadata"]["uid"] != job["metadata"]["uid"]:
        return True
    return is_finished(changed) or is_leaving(changed) or (not started and has_started(changed, None))
