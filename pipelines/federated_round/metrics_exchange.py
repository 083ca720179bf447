"""The second exchange of a round: sites count their test rows, and only a sealed sum of the counts is opened.

Open → every site that is counted counts → roster → share (under `smc`) → seal → aggregate → release or
unmask → open. They are the steps of the first exchange, under a ticket of another purpose. In a round without
metrics that ticket is empty and every step is over at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kfp import dsl

from components.aggregation.secure_aggregation.component import aggregate
from components.agreement.charter import COORDINATOR, KEY_HOLDER
from components.agreement.protections import RELEASE, TRAITS, UNMASK
from components.encryption.aggregate_opening.component import open_sum
from components.encryption.key_sharing.component import share
from components.encryption.mask_recovery.component import unmask
from components.encryption.mask_release.component import release
from components.encryption.update_sealing.component import seal
from components.evaluation.count_commitment.component import count
from components.rounds.metrics_opening.component import open_metrics
from components.rounds.roster_call.component import roster
from pipelines.federated_round.site_tasks import SiteTasks
from pipelines.federation import Federation

OF_METRICS = "metrics "
"""Before the names of steps that a round has twice."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What the report is told: the ticket for metrics and the receipt; both empty where nobody is counted."""

    ticket: Any = ""
    receipt: Any = ""


def counted(
    federation: Federation,
    measured: Sequence[SiteTasks],
    put: Callable[..., dsl.PipelineTask],
    *,
    committed: Any,
    ticket: Any,
) -> Counted:
    """Adds the exchange to a pipeline, if any site lets its test rows be counted.

    Args:
        federation: whose round it is.
        measured: all sites, which have adapted the committed model.
        put: places a task that belongs to no site.
        committed: reference of the committed round.
        ticket: of its update.
    """
    counting = [site for site in measured if site.name in federation.counting_sites]
    if not counting:
        return Counted()
    exchange = {"exchange_uri": federation.exchange_uri, "keys_uri": federation.keys_uri}
    opened = open_metrics(committed=committed, ticket=ticket, **exchange)
    put(opened, federation.coordinator, title="open metrics", owner=COORDINATOR)
    own = {"ticket": opened.outputs["ticket"], **exchange}
    sites = [site.counting(own["ticket"], OF_METRICS) for site in counting]
    for site in sites:
        site.count(count)
    return Counted(ticket=own["ticket"], receipt=_opened(federation, sites, put, own))


def _opened(
    federation: Federation,
    sites: Sequence[SiteTasks],
    put: Callable[..., dsl.PipelineTask],
    own: dict[str, Any],
) -> Any:
    """From commitments to the receipt of an opened sum; `own` is what every step of the exchange takes."""
    called = roster(
        commitments={site.name: site.commitment for site in sites},
        reasons={site.name: site.reason for site in sites},
        **own,
    )
    put(called, federation.coordinator, title=f"{OF_METRICS}roster", owner=COORDINATOR)

    lifted_by = TRAITS[federation.protection].lifted_by
    sharers = sites if lifted_by == UNMASK else []
    for site in sharers:
        site.share(share, roster=called.outputs["roster"])
    for site in sites:
        site.seal(seal, roster=called.outputs["roster"], sharers=sharers)
    summed = aggregate(
        sealed={site.name: site.sealed for site in sites},
        reasons={site.name: site.reason for site in sites},
        **own,
    )
    put(summed, federation.aggregator, title=f"{OF_METRICS}aggregate")

    for site in sites:
        if lifted_by == RELEASE:
            site.release(release, sealed_sum=summed.outputs["sealed_sum"])
        elif lifted_by == UNMASK:
            site.unmask(unmask, sealed_sum=summed.outputs["sealed_sum"])
    sum_opened = open_sum(
        sealed_sum=summed.outputs["sealed_sum"],
        releases={site.name: site.released for site in sites},
        store_uri=federation.key_holder_uri,
        **own,
    )
    put(sum_opened, federation.key_holder, title=f"{OF_METRICS}open", owner=KEY_HOLDER)
    return sum_opened.outputs["receipt"]
