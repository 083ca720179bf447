"""The second exchange of a round: sites count their test rows, and only a sealed sum of the counts is opened.

Open → every site that is counted counts → the steps of the first exchange, under a ticket of another purpose.
In a round without metrics that ticket is empty and every step is over at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kfp import dsl

from components.agreement.charter import COORDINATOR
from components.evaluation.count_commitment.component import count
from components.rounds.metrics_opening.component import open_metrics
from pipelines.federated_round.sealed_exchange import sealed_exchange
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
    return Counted(
        ticket=own["ticket"], receipt=sealed_exchange(federation, sites, put, own, titles=OF_METRICS)
    )
