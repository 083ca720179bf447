"""One round, from its ticket to its report.

Open → every site ingests, augments, trains → roster → every site shares what will mask it (under `smc`) →
every site seals → aggregate → every site in the sum releases its masks (under `sealed` and `masked`) or
unmasks the sum (under `smc`) → open → commit → every site adapts and evaluates → counts under the seal, where
sites let their test rows be counted (metrics_exchange.py) → report.
"""

from functools import partial

from kfp import dsl
from kfp.dsl import base_component

from components.aggregation.secure_aggregation.component import aggregate
from components.agreement.charter import COORDINATOR, KEY_HOLDER
from components.agreement.protections import RELEASE, TRAITS, UNMASK
from components.data_processing.feature_augmentation.component import augment
from components.data_processing.record_ingestion.component import ingest
from components.encryption.aggregate_opening.component import open_sum
from components.encryption.key_sharing.component import share
from components.encryption.mask_recovery.component import unmask
from components.encryption.mask_release.component import release
from components.encryption.update_sealing.component import seal
from components.evaluation.model_evaluation.component import evaluate
from components.evaluation.round_report.component import report
from components.rounds.roster_call.component import roster
from components.rounds.round_commit.component import commit_round
from components.rounds.round_opening.component import open_round
from components.training.adaptation.component import adapt
from components.training.local_training.component import train
from pipelines.charter_comparison import server_optimizer
from pipelines.federated_round.metrics_exchange import counted
from pipelines.federated_round.site_tasks import SiteTasks
from pipelines.federation import Federation
from pipelines.placement import place


def federated_round(federation: Federation) -> base_component.BaseComponent:
    """The pipeline of one round of a federation; its parameters are what a run may choose."""
    training, task = federation.training, federation.task
    exchange = {"exchange_uri": federation.exchange_uri, "keys_uri": federation.keys_uri}
    state = {"state_uri": federation.state_uri, **exchange}
    put = partial(place, federation=federation)

    @dsl.pipeline(
        name=f"{federation.federation}-round",
        display_name=f"{federation.title}: one round",
        description=f"One {federation.method} round over {', '.join(federation.site_names)}.",
    )
    def round_pipeline(
        local_epochs: int = training.local_epochs,
        learning_rate: float = training.learning_rate,
        batch_size: int = training.batch_size,
        device: str = training.device,
    ) -> None:
        opened = open_round(
            federation=federation.federation,
            sites=federation.site_names,
            protection=federation.protection,
            features=federation.num_features,
            hidden_units=federation.head.hidden_units,
            skip=federation.head.skip,
            server_optimizer=server_optimizer(federation),
            classes=len(task.classes),
            seed=training.seed,
            local_epochs=local_epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            **state,
        )
        put(opened, federation.coordinator, title="open round", owner=COORDINATOR)
        ticket = opened.outputs["ticket"]
        sites = [SiteTasks(federation, site, ticket) for site in federation.sites]

        for site in sites:
            site.learn(ingest, augment, train, device=device)
        called = roster(
            commitments={site.name: site.commitment for site in sites},
            reasons={site.name: site.reason for site in sites},
            ticket=ticket,
            **exchange,
        )
        put(called, federation.coordinator, title="roster", owner=COORDINATOR)

        lifted_by = TRAITS[federation.protection].lifted_by
        if lifted_by == UNMASK:
            for site in sites:
                site.share(share, roster=called.outputs["roster"])
        for site in sites:
            sharers = sites if lifted_by == UNMASK else ()
            site.seal(seal, roster=called.outputs["roster"], sharers=sharers)
        summed = aggregate(
            sealed={site.name: site.sealed for site in sites},
            reasons={site.name: site.reason for site in sites},
            ticket=ticket,
            **exchange,
        )
        put(summed, federation.aggregator, title="aggregate")

        for site in sites:
            if lifted_by == RELEASE:
                site.release(release, sealed_sum=summed.outputs["sealed_sum"])
            elif lifted_by == UNMASK:
                site.unmask(unmask, sealed_sum=summed.outputs["sealed_sum"])
        sum_opened = open_sum(
            sealed_sum=summed.outputs["sealed_sum"],
            releases={site.name: site.released for site in sites},
            ticket=ticket,
            store_uri=federation.key_holder_uri,
            **exchange,
        )
        put(sum_opened, federation.key_holder, title="open", owner=KEY_HOLDER)
        committed = commit_round(
            receipt=sum_opened.outputs["receipt"], ticket=ticket, stage=opened.outputs["stage"], **state
        )
        put(committed, federation.coordinator, title="commit round", owner=COORDINATOR)

        for site in sites:
            site.measure(adapt, evaluate, model=committed.outputs["model"])
        metrics = counted(federation, sites, put, committed=committed.outputs["committed"], ticket=ticket)
        told = report(
            figures={site.name: site.figures for site in sites},
            reasons={site.name: site.measure_reason for site in sites},
            clouds={site.name: site.cloud for site in sites},
            title=federation.title,
            method=federation.method,
            classes=task.classes,
            committed=committed.outputs["committed"],
            ticket=ticket,
            metrics_ticket=metrics.ticket,
            metrics_receipt=metrics.receipt,
            **state,
        )
        put(told, federation.coordinator, title="report")

    pipeline: base_component.BaseComponent = round_pipeline
    return pipeline
