"""Runs of a federation's rounds as an endpoint tells of them."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.kubeflow.connection import Endpoint, required
from pipelines.spec_check.findings import one_line

SUCCEEDED = "SUCCEEDED"
ENDED = frozenset({SUCCEEDED, "FAILED", "SKIPPED", "CANCELED"})
UNKNOWN = "UNKNOWN"
_MOST_LOOKED_THROUGH = 1000
"""Newest runs of all pipelines among which those of a federation are looked for."""
_RETRIED = re.compile(r"\(\d+\)$")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a run.

    Attributes:
        name: in the spec.
        state: such as RUNNING.
        seconds: it took; None while it has not ended.
        error: what the endpoint says of its failure, in one line.
    """

    name: str
    state: str
    seconds: float | None
    error: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run.

    Attributes:
        run_id: its id.
        name: as its page has it.
        state: such as SUCCEEDED.
        created_at: when it was made.
        scheduled_at: when it was due, for a run that a schedule has made.
        finished_at: when it ended, or None.
        recurring_run_id: of the schedule that has made it, or empty.
        error: what the endpoint says of its failure, in one line.
        tasks: in the order they began.
    """

    run_id: str
    name: str
    state: str
    created_at: datetime
    scheduled_at: datetime | None
    finished_at: datetime | None
    recurring_run_id: str
    error: str
    tasks: tuple[Task, ...]

    @property
    def due_at(self) -> datetime:
        """When it was to begin."""
        return self.scheduled_at or self.created_at


def read_run(endpoint: Endpoint, run_id: str) -> Run:
    """One run as it stands.

    Raises:
        EndpointError: it cannot be had.
    """
    return _run(endpoint.ask(lambda: endpoint.client.get_run(run_id)))


def newest_runs(endpoint: Endpoint, pipeline_id: str, *, most: int) -> list[Run]:
    """The newest runs of a pipeline, the newest first.

    Args:
        endpoint: that holds them.
        pipeline_id: of the federation's pipeline.
        most: how many; fewer if there are no more among the endpoint's newest thousand.

    Raises:
        EndpointError: they cannot be had.
    """
    terms = {"namespace": endpoint.namespace} if endpoint.namespace else {}
    listed = endpoint.pages(endpoint.client.list_runs, "runs", sort_by="created_at desc", **terms)
    # Servers differ in whether they can filter by pipeline: it is done here.
    ours = (
        each
        for each in itertools.islice(listed, _MOST_LOOKED_THROUGH)
        if getattr(each.pipeline_version_reference, "pipeline_id", None) == pipeline_id
    )
    return [_run(each) for each in itertools.islice(ours, most)]


def _run(found: Any) -> Run:
    details = found.run_details.task_details or () if found.run_details else ()
    tasks = sorted((_task(each) for each in details), key=lambda pair: pair[0])
    return Run(
        run_id=required(found, "run_id"),
        name=one_line(found.display_name or ""),
        state=_state(found),
        created_at=_time(found.created_at) or datetime.fromtimestamp(0, UTC),
        scheduled_at=_time(found.scheduled_at),
        finished_at=_time(found.finished_at),
        recurring_run_id=found.recurring_run_id or "",
        error=_error(found),
        tasks=tuple(task for _, task in tasks),
    )


def _task(found: Any) -> tuple[datetime, Task]:
    began, ended = _time(found.start_time), _time(found.end_time)
    state = _state(found)
    seconds = (ended - began).total_seconds() if began and ended and state in ENDED else None
    # An attempt of a task that may be retried has its number behind the name.
    name = _RETRIED.sub("", found.display_name or "")
    task = Task(name=one_line(name), state=state, seconds=seconds, error=_error(found))
    return began or datetime.max.replace(tzinfo=UTC), task


def _state(found: Any) -> str:
    state = found.state
    return state if isinstance(state, str) and not state.endswith("_UNSPECIFIED") else UNKNOWN


def _error(found: Any) -> str:
    message = getattr(found.error, "message", None) or ""
    return one_line(" ".join(str(message).split()))[:300]


def _time(value: datetime | None) -> datetime | None:
    """A time that says something: what has not happened is told as 1970."""
    if value is None:
        return None
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return aware.astimezone(UTC) if aware.timestamp() > 0 else None
