from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.execution.jobs.client import ClusterClient, open_cluster
from components.execution.jobs.dispatch import run_job
from components.execution.jobs.ends import JobEnd
from components.execution.jobs.order import Cluster, JobOrder
from components.execution.jobs.patience import Patience
from tests.jobs_api.controller import Controller
from tests.jobs_api.objects import Object
from tests.jobs_api.server import JobsServer
from tests.jobs_api.templates import template

NAMESPACE = "crosscloud-alpha"
REQUEST = "0123456789abcdef" * 4
TRAIN = JobOrder(step="train", request=REQUEST, deadline_s=30)
SWIFT = Patience(
    start_grace_s=20.0,
    image_s=0.5,
    late_s=0.5,
    unreachable_s=10.0,
    denied_s=5.0,
    gone_s=10.0,
    cancel_s=3.0,
    watch_s=1.0,
    look_s=0.2,
    connect_s=5.0,
    read_s=5.0,
    first_pause_s=0.02,
    longest_pause_s=0.1,
)
"""Patience of tests: what takes minutes in a cluster takes a second."""

Script = Callable[[Controller, Object], None]


@pytest.fixture
def server() -> Iterator[JobsServer]:
    """A cluster with the site's namespace and template."""
    with JobsServer() as running:
        running.add_namespace(NAMESPACE, template())
        yield running


@pytest.fixture
def cluster(server: JobsServer, tmp_path: Path) -> Cluster:
    """What opens that cluster."""
    path = server.write_kubeconfig(tmp_path / "kubeconfig")
    return Cluster(namespace=NAMESPACE, kubeconfig=str(path))


@pytest.fixture
def client(cluster: Cluster) -> ClusterClient:
    """A client of it in a hurry."""
    return open_cluster(cluster, patience=SWIFT)


@pytest.fixture
def run(server: JobsServer, cluster: Cluster) -> Callable[..., JobEnd]:
    """Runs an order while `script` plays the nodes."""

    def run_it(
        script: Script | None = None, *, order: JobOrder = TRAIN, patience: Patience = SWIFT
    ) -> JobEnd:
        server.controller.runner = script
        return run_job(order, cluster, patience=patience)

    return run_it


def completes(controller: Controller, job: Object) -> None:
    """The life of a Job that is done."""
    controller.pend(job)
    controller.run(job)
    controller.end(job)


def made_before(server: JobsServer, order: JobOrder = TRAIN, **changes: Any) -> Object:
    """A Job that another dispatcher created, its nodes played by nobody."""
    from components.execution.jobs.template import fill_template

    runner, server.controller.runner = server.controller.runner, None
    job = fill_template(template(), order, NAMESPACE, start_grace_s=SWIFT.start_grace_s)
    job["spec"]["template"]["spec"]["containers"][0] |= changes
    created = server.create(NAMESPACE, job)
    server.controller.runner = runner
    return created
