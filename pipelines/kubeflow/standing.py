"""Whether the schedule of a federation does what it should, from what an endpoint tells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from pipelines.federation import Federation
from pipelines.kubeflow.connection import Endpoint
from pipelines.kubeflow.cron import Cron, CronError, parse_cron
from pipelines.kubeflow.recurring import Recurring, recurring_runs
from pipelines.kubeflow.runs import ENDED, SUCCEEDED, Run, newest_runs
from pipelines.kubeflow.scheduling import stands_still
from pipelines.kubeflow.versions import find_pipeline

SHOWN_RUNS = 5
_LOOKED_AT = 50
_MOST_LEFT_OUT = 1000


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where the rounds stand at an endpoint.

    Attributes:
        schedule: the recurring run that is in force, or None.
        next_at: when it starts the next round, UTC; None if none is enabled.
        runs: the newest, the newest first.
        faults: what somebody has to look at, one line each.
        notes: what is good to know, one line each.
    """

    schedule: Recurring | None
    next_at: datetime | None
    runs: tuple[Run, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def standing(endpoint: Endpoint, federation: Federation, *, now: datetime, zone: tzinfo = UTC) -> Standing:
    """Asks the endpoint and judges what it tells.

    Args:
        endpoint: that holds runs and schedule.
        federation: whose they are.
        now: time of the judgement.
        zone: that the endpoint's scheduler counts in.

    Raises:
        UsageError: it cannot be asked.
    """
    ours = recurring_runs(endpoint, federation)
    pipeline_id = find_pipeline(endpoint, federation)
    runs = newest_runs(endpoint, pipeline_id, most=_LOOKED_AT) if pipeline_id else []
    faults, notes = _schedule_findings(federation, ours)
    enabled = next((each for each in ours if each.enabled), None)
    scheduled = [run for run in runs if run.recurring_run_id]
    faults += _failures(endpoint, scheduled)
    next_at = None
    if enabled is not None:
        try:
            cron = parse_cron(enabled.cron)
            next_at = cron.after(now.astimezone(zone)).astimezone(UTC)
            late, left_out = _punctuality(cron, enabled, scheduled, now.astimezone(zone))
            faults, notes = faults + late, notes + left_out
        except CronError as error:
            faults.append(f"the recurring run has a cron that was not made here: {error}; schedule again")
    return Standing(
        schedule=enabled or (ours[-1] if ours else None),
        next_at=next_at,
        runs=tuple(runs[:SHOWN_RUNS]),
        faults=tuple(faults),
        notes=tuple(notes),
    )


def _schedule_findings(federation: Federation, ours: Sequence[Recurring]) -> tuple[list[str], list[str]]:
    """What is wrong, or good to know, about the recurring runs that are there."""
    enabled = sum(each.enabled for each in ours)
    wanted = federation.schedule
    if enabled > 1:
        return [f"{enabled} recurring runs start rounds: schedule again, which leaves one"], []
    if not ours:
        if wanted is not None and wanted.enabled:
            return ["nothing is scheduled, the federation file asks for it: run 'crosscloud schedule'"], []
        return [], []
    if not enabled:
        if wanted is None or not wanted.enabled or stands_still(ours):
            return [], ["the schedule is suspended"]
        return ["no recurring run is enabled, replacing one was cut off: run 'crosscloud schedule' again"], []
    notes = ["another recurring run is left over: schedule again, which deletes it"] if len(ours) > 1 else []
    running = next(each for each in ours if each.enabled)
    if wanted is None or not wanted.enabled:
        notes.append("rounds are scheduled that the federation file does not ask for: schedule --delete")
    elif running.cron != wanted.cron:
        notes.append(
            f"scheduled is {running.cron!r}, the federation file has {wanted.cron!r}: run "
            "'crosscloud schedule'"
        )
    return [], notes


def _failures(endpoint: Endpoint, scheduled: Sequence[Run]) -> list[str]:
    """The newest scheduled run that has ended must have succeeded."""
    ended = next((run for run in scheduled if run.state in ENDED), None)
    if ended is None or ended.state == SUCCEEDED:
        return []
    why = f" ({ended.error})" if ended.error else ""
    return [
        f"the newest scheduled run that has ended, due {_told(ended.due_at)}, is {ended.state}{why}: "
        f"{endpoint.address.run_page(ended.run_id)}"
    ]


def _punctuality(
    cron: Cron, recurring: Recurring, scheduled: Sequence[Run], now: datetime
) -> tuple[list[str], list[str]]:
    """Faults and notes about due times without a run of this recurring run."""
    own = [run for run in scheduled if run.recurring_run_id == recurring.recurring_run_id]
    faults, notes = [], []
    since = max([recurring.created_at, *(run.due_at for run in own[:1])])
    missed = list(itertools.islice(cron.times(since.astimezone(now.tzinfo), now), _MOST_LEFT_OUT))
    if missed:
        busy = own and own[0].state not in ENDED
        why = f"run {own[0].run_id} is still {own[0].state}" if busy else "no run has begun"
        times = "once" if len(missed) == 1 else f"{len(missed)} times"
        if len(missed) > 1:
            # One period has passed since the round was due, and it is due again.
            faults.append(f"the schedule is overdue since {_told(missed[0])}, {times}: {why}")
        else:
            notes.append(f"a round was due {_told(missed[0])}: {why}")
    if len(own) > 1:
        newest, before = own[0], own[1]
        between = [
            time
            for time in cron.times(before.due_at.astimezone(now.tzinfo), newest.due_at)
            if time < newest.due_at
        ]
        if between:
            notes.append(
                f"before the newest scheduled run, rounds were left out {len(between)} times, first "
                f"{_told(between[0])}: the one before ran on, or the scheduler stood still"
            )
    return faults, notes


def _told(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
