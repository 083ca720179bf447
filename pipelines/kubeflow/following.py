"""Follows a run to its end, a line for every task that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from components.errors import CrosscloudError
from pipelines.kubeflow.connection import Endpoint
from pipelines.kubeflow.refusals import EndpointError, EndpointUnreachableError
from pipelines.kubeflow.runs import ENDED, SUCCEEDED, Run, Task, read_run

POLL_S = 5.0
SILENCE_S = 600.0
"""How long an endpoint may not answer before we stop asking; the run goes on."""


class RunFailedError(CrosscloudError):
    """A run that did not succeed."""


def follow(
    endpoint: Endpoint,
    run_id: str,
    titles: Mapping[str, str],
    tell: Callable[[str], None],
    *,
    poll_s: float = POLL_S,
    silence_s: float = SILENCE_S,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Run:
    """Waits until a run has ended.

    Args:
        endpoint: that runs it.
        run_id: which.
        titles: of its tasks, by their names in the spec; other tasks are Kubeflow's own.
        tell: is given one line for each task that has ended.
        poll_s: seconds between two looks.
        silence_s: seconds that the endpoint may not answer.
        sleep: waits for so many seconds.
        clock: seconds.

    Raises:
        RunFailedError: it has not succeeded; the task that failed, with its state.
        EndpointError: the endpoint no longer answers, or no longer us.
    """
    told: set[tuple[str, str]] = set()
    heard = clock()
    while True:
        try:
            run = read_run(endpoint, run_id)
            heard = clock()
        except EndpointUnreachableError as error:
            if clock() - heard >= silence_s:
                raise EndpointUnreachableError(f"{error}; the run goes on") from None
            sleep(poll_s)
            continue
        except EndpointError as error:
            raise type(error)(f"{error}; the run goes on") from None
        for task in run.tasks:
            if task.name in titles and task.state in ENDED and (task.name, task.state) not in told:
                told.add((task.name, task.state))
                tell(_line(titles[task.name], task))
        if run.state in ENDED:
            break
        sleep(poll_s)
    if run.state != SUCCEEDED:
        raise RunFailedError(failure(run, titles))
    return run


def failure(run: Run, titles: Mapping[str, str]) -> str:
    """What a run came to that has not succeeded, in one line."""
    failed = [task for task in run.tasks if task.state == "FAILED"]
    # What holds a failed task has failed too: our own say more than Kubeflow's.
    failed.sort(key=lambda task: task.name not in titles)
    line = f"run {run.run_id} has ended as {run.state}"
    if failed:
        first = failed[0]
        line += f": {titles.get(first.name, first.name)} {first.state}"
    message = failed[0].error if failed and failed[0].error else run.error
    return f"{line}: {message}" if message else line


def _line(title: str, task: Task) -> str:
    seconds = f"  {task.seconds:.1f} s" if task.seconds is not None else ""
    return f"{task.state.lower():<9}  {title}{seconds}"
