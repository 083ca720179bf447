"""Brings a federation's recurring runs to the one that its file asks for.

A recurring run cannot be changed: the new one is made and the old one deleted. Between the two, two must
never start rounds, and if none does somebody must hear of it. So, in this order:

1. the new one is made, disabled;
2. the old one is disabled;
3. the new one is enabled;
4. the old one is deleted.

At most one is enabled at any time. None is between 2 and 3 only, and whoever is cut off there leaves two of
ours behind: `status` takes that for a fault, and the next `schedule` goes on at 3. One alone that is disabled
was suspended on purpose and stays so. The first of a federation is made enabled, so that being cut off while
making it leaves nothing half done. Two people who schedule at once each list what is there after they have
made theirs, and both keep the oldest that fits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from components.errors import UsageError
from pipelines.federation import Federation
from pipelines.kubeflow.connection import Endpoint
from pipelines.kubeflow.recurring import (
    BY_FILE,
    BY_HAND,
    Recurring,
    Terms,
    create,
    delete,
    disable,
    enable,
    recurring_runs,
)
from pipelines.kubeflow.refusals import EndpointError, MissingError

Change = Literal["created", "replaced", "unchanged", "resumed", "suspended", "reconciled"]
_ATTEMPTS = 5
"""How often others may change the same recurring runs under our hands."""


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """What is there now.

    Attributes:
        kept: the one recurring run, as it was found.
        enabled: whether it starts runs.
        change: what was done.
        deleted: how many others were deleted.
    """

    kept: Recurring
    enabled: bool
    change: Change
    deleted: int


def schedule(endpoint: Endpoint, federation: Federation, terms: Terms, *, resume: bool = False) -> Scheduled:
    """Makes, keeps or replaces the recurring run.

    Args:
        endpoint: that holds it.
        federation: whose rounds it starts.
        terms: as the file and the command ask for.
        resume: whether one that was suspended by hand is enabled again.

    Raises:
        UsageError: it is not as asked for; which of both is enabled, if none is.
    """
    before = ours = recurring_runs(endpoint, federation)
    still = not resume and stands_still(before)
    for _ in range(_ATTEMPTS):
        fitting = [each for each in ours if each.has(terms)]
        if not fitting:
            mark = BY_FILE if not terms.enabled else BY_HAND if still else ""
            create(endpoint, federation, terms, enabled=not mark and not ours, mark=mark)
        else:
            with contextlib.suppress(MissingError):
                enabled = terms.enabled and not still
                return _settle(endpoint, ours, fitting[0], enabled=enabled, before=before)
        ours = recurring_runs(endpoint, federation)
    raise UsageError(
        f"the recurring runs of {federation.federation} at {endpoint.address.url} change while they are "
        "looked at: let one schedule them at a time"
    )


def suspend(endpoint: Endpoint, federation: Federation) -> int:
    """Disables whatever of ours is enabled; gives how many those were.

    Raises:
        UsageError: nothing is scheduled, or it cannot be disabled.
    """
    ours = recurring_runs(endpoint, federation)
    if not ours:
        raise UsageError(f"nothing of {federation.federation} is scheduled at {endpoint.address.url}")
    enabled = [each for each in ours if each.enabled]
    for each in enabled:
        disable(endpoint, each.recurring_run_id)
    return len(enabled)


def unschedule(endpoint: Endpoint, federation: Federation) -> int:
    """Deletes all of ours; gives how many those were.

    Raises:
        EndpointError: one cannot be deleted.
    """
    ours = recurring_runs(endpoint, federation)
    for each in ours:
        delete(endpoint, each.recurring_run_id)
    return len(ours)


def stands_still(ours: Sequence[Recurring]) -> bool:
    """Whether somebody has suspended the schedule by hand.

    Several of which none is enabled are a replacement that was cut off, unless the last was made suspended.
    """
    if not ours or any(each.enabled for each in ours):
        return False
    mark = max(ours, key=lambda each: each.age).mark
    return mark == BY_HAND or (not mark and len(ours) == 1)


def _settle(
    endpoint: Endpoint,
    ours: Sequence[Recurring],
    keep: Recurring,
    *,
    enabled: bool,
    before: Sequence[Recurring],
) -> Scheduled:
    """Of ours one is kept, enabled or not, and the others are deleted."""
    others = [each for each in ours if each is not keep]
    for each in others:
        if each.enabled:
            disable(endpoint, each.recurring_run_id)
    if enabled and not keep.enabled:
        try:
            enable(endpoint, keep.recurring_run_id)
        except MissingError:
            raise
        except EndpointError as error:
            # The old one is not enabled again: the new one may be by now, and nobody has heard of it.
            raise EndpointError(
                f"{error}; it may be that no schedule is enabled now: schedule again until this succeeds"
            ) from None
    elif keep.enabled and not enabled:
        disable(endpoint, keep.recurring_run_id)
    for each in others:
        delete(endpoint, each.recurring_run_id)
    return Scheduled(
        kept=keep, enabled=enabled, change=_change(keep, before, others, enabled=enabled), deleted=len(others)
    )


def _change(
    keep: Recurring, before: Sequence[Recurring], others: Sequence[Recurring], *, enabled: bool
) -> Change:
    known = {each.recurring_run_id for each in before}
    if keep.recurring_run_id not in known:
        return "replaced" if known else "created"
    if others:
        return "reconciled"
    if keep.enabled == enabled:
        return "unchanged"
    return "resumed" if enabled else "suspended"
