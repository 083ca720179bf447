"""One step of one site as a Job: created or adopted, watched to its end, cancelled with this process."""

from __future__ import annotations

import os
from dataclasses import replace

from components.execution import progress
from components.execution.jobs.adoption import arguments_of, create_or_adopt
from components.execution.jobs.client import ClusterClient, open_cluster
from components.execution.jobs.ends import JobEnd
from components.execution.jobs.order import Cluster, JobOrder
from components.execution.jobs.patience import CLOCK, PATIENCE, Clock, Patience
from components.execution.jobs.refusals import ClusterError
from components.execution.jobs.signals import Signals, Terminated
from components.execution.jobs.watching import watch_to_end

_ON_ITS_WAY_S = 1.0


def run_job(
    order: JobOrder, cluster: Cluster, *, patience: Patience = PATIENCE, clock: Clock = CLOCK
) -> JobEnd:
    """Has a step done as a Job, and tells how that ended.

    SIGTERM cancels the Job and then ends the process as it would have; so does Ctrl-C. That needs the main
    thread: in another one signals are left to whoever has them. SIGKILL leaves the Job to the next
    dispatcher, which adopts it.

    Args:
        order: the step.
        cluster: where.
        patience: how long to wait for what.
        clock: to wait by.

    Raises:
        UsageError: the Kubernetes client is not installed, or the kubeconfig cannot be used.
    """
    signals = Signals()
    client = open_cluster(cluster, patience=patience, clock=signals.heeding(clock))
    with signals.raised():
        try:
            end = _end_of_job(client, order)
            signals.heed()
        except (Terminated, KeyboardInterrupt):
            with signals.undisturbed():
                cancel(client, order)
            raise
    return end


def _end_of_job(client: ClusterClient, order: JobOrder) -> JobEnd:
    try:
        job, adopted = create_or_adopt(client, order)
        progress.tell(f"{order.step}: {order.job} {'adopted' if adopted else 'created'}")
        return replace(watch_to_end(client, order, job), adopted=adopted)
    except ClusterError as error:
        if os.environ.get("CROSSCLOUD_DEBUG"):
            progress.tell(" ".join(str(error).split()))
        return JobEnd(reason=error.told)


def cancel(client: ClusterClient, order: JobOrder) -> bool:
    """Deletes the Job of `order` with its pods, without waiting for them; whether that could be said.

    A Job of its name that does another request is left alone.
    """
    client = client.with_patience(client.patience.for_cancelling())
    try:
        job = client.sight(order.job).job
        if job is None:
            # A creation that was interrupted may still be on its way into the API server's store.
            client.clock.sleep(_ON_ITS_WAY_S)
            job = client.sight(order.job).job
        if job is not None and arguments_of(job) == order.arguments:
            client.delete(job, "Background")
            progress.tell(f"{order.step}: {order.job} cancelled")
    except ClusterError as error:
        progress.tell(f"{order.step}: {order.job} may still run ({error.told})")
        return False
    return True
