"""One Job for one request: created, or the one that another dispatcher created before."""

from __future__ import annotations

from components.execution import progress
from components.execution.jobs.answers import Job
from components.execution.jobs.client import ClusterClient
from components.execution.jobs.ends import condition, is_leaving
from components.execution.jobs.order import JobOrder
from components.execution.jobs.patience import Pauses
from components.execution.jobs.refusals import JobRefusedError
from components.execution.jobs.template import CONTAINER, fill_template, read_template

_MOST_TRIES = 5
"""A Job that others delete, or make in our place and let fail, each time it was created."""


def create_or_adopt(client: ClusterClient, order: JobOrder) -> tuple[Job, bool]:
    """The Job that does `order`, and whether it was there before.

    A Job of that name which has failed is deleted and made anew; one that is being deleted is waited for
    until it is gone. One that completed is adopted: its work is done.

    Raises:
        ClusterError: there can be no such Job; its `told` is the reason for the roster.
    """
    job = None
    pauses = Pauses(client.patience, client.clock)
    for _ in range(_MOST_TRIES):
        there = client.sight(order.job).job
        if there is None:
            if job is None:
                grace_s = client.patience.start_grace_s
                template = read_template(client.template())
                job = fill_template(template, order, client.namespace, start_grace_s=grace_s)
            created = client.create(job)
            if created is not None:
                return created, False
            pauses.pause()
            continue
        if arguments_of(there) != order.arguments:
            raise JobRefusedError(f"{order.job} does another request", disclosed="another Job has its name")
        failed = condition(there, "Failed") is not None
        if condition(there, "Complete") or not (failed or is_leaving(there)):
            return there, True
        if not is_leaving(there):
            progress.tell(f"{order.step}: {order.job} failed before; it is made anew")
            # The pods go first, so that no two pods work on one request.
            client.delete(there, "Foreground")
        _wait_until_gone(client, there)
    raise JobRefusedError(
        f"{order.job} was not there or had failed {_MOST_TRIES} times", disclosed="the Job does not stay"
    )


def arguments_of(job: Job) -> list[str] | None:
    """What the container of a Job is called with; None for a Job that is none of ours."""
    try:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        return list(container.get("args") or []) if container["name"] == CONTAINER else None
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


def _wait_until_gone(client: ClusterClient, job: Job) -> None:
    until = client.clock.now() + client.patience.gone_s
    pauses = Pauses(client.patience, client.clock)
    while True:
        there = client.sight(job["metadata"]["name"]).job
        if there is None or there["metadata"]["uid"] != job["metadata"]["uid"]:
            return
        if client.clock.now() >= until:
            raise JobRefusedError(
                f"{job['metadata']['name']} is not gone", disclosed="the Job before it is not gone"
            )
        pauses.pause(until=until)
