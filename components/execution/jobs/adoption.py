"""One Job for one request: created, or the one that another dispatcher created before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.execution import progress
from components.execution.jobs.client import ClusterClient
from components.execution.jobs.ends import condition, is_leaving
from components.execution.jobs.order import JobOrder
from components.execution.jobs.patience import Pauses
from components.execution.jobs.refusals import JobRefusedError
from components.execution.jobs.template import CONTAINER, fill_template, read_template

_MOST_TRIES = 5
"""A Job that is deleted by others each time it was created is not created for ever."""


def create_or_adopt(client: ClusterClient, order: JobOrder) -> tuple[Mapping[str, Any], bool]:
    """The Job that does `order`, and whether it was there before.

    A Job of that name which has failed is deleted and made anew; one that is being deleted is waited for
    until it is gone. One that completed is adopted: its work is done.

    Raises:
        ClusterError: there can be no such Job; its `told` is the reason for the roster.
    """
    job = None
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
            continue
        if arguments_of(there) != order.arguments:
            raise JobRefusedError(f"{order.job} does another request", disclosed="another Job has its name")
        if not is_leaving(there) and condition(there, "Failed") is None:
            return there, True
        if not is_leaving(there):
            progress.tell(f"{order.step}: {order.job} failed before; it is made anew")
            # The pods go first, so that no two pods work on one request.
            client.delete(there, "Foreground")
        _wait_until_gone(client, there)
    raise JobRefusedError(f"{order.job} was deleted {_MOST_TRIES} times", disclosed="the Job does not stay")


def arguments_of(job: Mapping[str, Any]) -> list[str] | None:
    """What the container of a Job is called with; None for a Job that is not one of ours."""
    pod = ((job.get("spec") or {}).get("template") or {}).get("spec") or {}
    containers = list(pod.get("containers") or [])
    if len(containers) != 1 or containers[0].get("name") != CONTAINER:
        return None
    return list(containers[0].get("args") or [])


def _wait_until_gone(client: ClusterClient, job: Mapping[str, Any]) -> None:
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
