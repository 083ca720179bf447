"""Follows one Job to its end, through lost connections, restarts of the API server and rotated tokens.

Every watch begins with a list, so that whatever was missed in between is seen, and an expired version is
of no consequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.execution import progress
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
from components.execution.jobs.refusals import RefusedRequestError, refusal

_DELETED = "evicted: the Job was deleted"


def watch_to_end(client: ClusterClient, order: JobOrder, job: Mapping[str, Any]) -> JobEnd:
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
    job: Mapping[str, Any]

    def __post_init__(self) -> None:
        patience = self.client.patience
        self.began = self.client.clock.now()
        self.ends_at = self.began + self.order.deadline_s + patience.start_grace_s + patience.late_s
        self.started = False
        self.no_image_since: float | None = None
        self.refused_since: float | None = None

    def to_end(self) -> JobEnd:
        while True:
            sighting = self.client.sight(self.order.job, patient=True, until=self.ends_at)
            end = self._end_of(sighting.job) or self._impatience()
            if end is not None:
                return end
            self._follow(sighting.version)

    def _end_of(self, job: Mapping[str, Any] | None) -> JobEnd | None:
        if job is None or job["metadata"]["uid"] != self.job["metadata"]["uid"] or is_leaving(job):
            return JobEnd(reason=_DELETED)
        self.job = job
        if is_finished(job):
            failed = end_reason(job, None)
            return JobEnd(reason=end_reason(job, self.client.pods(job)) if failed else "")
        return None

    def _impatience(self) -> JobEnd | None:
        """Ends what would wait without end."""
        now, patience = self.client.clock.now(), self.client.patience
        reason = ""
        if not self.started:
            pods = self.client.pods(self.job)
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
        self.client.delete(self.job, "Background")
        return JobEnd(reason=reason)

    def _follow(self, version: str) -> None:
        """Returns when the Job has changed in a way that matters, the watch is over, or it broke."""
        from urllib3.exceptions import HTTPError

        patience, clock = self.client.patience, self.client.clock
        opened = clock.now()
        longest_s = patience.watch_s if self.started else min(patience.watch_s, patience.look_s)
        seconds = max(0.0, min(longest_s, self.ends_at - opened))
        try:
            with self.client.changes(self.order.job, version, seconds) as events:
                for event in events:
                    if _matters(event, self.job, started=self.started):
                        return
                    if clock.now() >= opened + seconds:
                        return
            self.refused_since = None
        except RefusedRequestError as error:
            self._bear(error)
        except (HTTPError, ValueError, OSError):
            # The list that follows tells whether the API server is there, and waits for it.
            pass
        if clock.now() - opened < patience.first_pause_s:
            Pauses(patience, clock).pause(until=self.ends_at)

    def _bear(self, error: RefusedRequestError) -> None:
        """A watch that is refused although lists are answered: waited out for a while."""
        now = self.client.clock.now()
        if error.status not in {401, 403}:
            return
        if self.refused_since is None:
            self.refused_since = now
        elif now >= self.refused_since + self.client.patience.denied_s:
            raise refusal(error, of="watch jobs")


def _matters(event: Mapping[str, Any], job: Mapping[str, Any], *, started: bool) -> bool:
    """Whether the Job has to be looked at: it ended, is leaving, or may have started."""
    kind, changed = event.get("type"), event.get("object")
    if kind == "BOOKMARK":
        return False
    if kind not in {"ADDED", "MODIFIED"} or not isinstance(changed, dict):
        # DELETED, or an ERROR such as a version that is no longer known.
        return True
    if (changed.get("metadata") or {}).get("uid") != job["metadata"]["uid"]:
        return True
    return is_finished(changed) or is_leaving(changed) or (not started and has_started(changed, None))
