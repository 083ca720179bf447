"""One exchange of a round: from the sites' commitments to the receipt of one opened sum.

Roster → every site shares what will mask it (under `smc`) → every site seals → aggregate → every site in the
sum releases its masks (under `sealed` and `masked`) or unmasks the sum (under `smc`) → open. A round has one
exchange for its update, and where sites are counted another for its metrics, under a ticket of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from components.rounds.roster_call.component import roster
from pipelines.federated_round.site_tasks import SiteTasks
from pipelines.federation import Federation


def sealed_exchange(
    federation: Federation,
    sites: Sequence[SiteTasks],
    put: Callable[..., dsl.PipelineTask],
    own: dict[str, Any],
    *,
    titles: str = "",
) -> Any:
    """Adds the exchange to a pipeline.

    Args:
        federation: whose round it is.
        sites: that have committed, or say why not.
        put: places a task that belongs to no site.
        own: what every step of the exchange takes: ticket, exchange and keys.
        titles: before the names of the steps that belong to no site.

    Returns:
        Reference of the receipt.
    """
    called = roster(
        commitments={site.name: site.commitment for site in sites},
        reasons={site.name: site.reason for site in sites},
        **own,
    )
    put(called, federation.coordinator, title=f"{titles}roster", owner=COORDINATOR)

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
    put(summed, federation.aggregator, title=f"{titles}aggregate")

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
    put(sum_opened, federation.key_holder, title=f"{titles}open", owner=KEY_HOLDER)
    return sum_opened.outputs["receipt"]
