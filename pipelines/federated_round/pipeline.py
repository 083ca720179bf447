"""One round, from its ticket to its report.

Open → every site ingests, augments, trains → roster, seal, aggregate, release, open (sealed_exchange.py) →
commit → every site adapts and evaluates → counts under the seal, where sites let their test rows be counted
(metrics_exchange.py) → report.
"""

from functools import partial

from kfp import dsl
from kfp.dsl import base_component

from components.agreement.charter import COORDINATOR
from components.data_processing.feature_augmentation.component import augment
from components.data_processing.record_ingestion.component import ingest
from components.evaluation.model_evaluation.component import evaluate
from components.evaluation.round_report.component import report
from components.rounds.round_commit.component import commit_round
from components.rounds.round_opening.component import open_round
from components.training.adaptation.component import adapt
from components.training.local_training.component import train
from pipelines.charter_comparison import server_optimizer
from pipelines.federated_round.metrics_exchange import counted
from pipelines.federated_round.sealed_exchange import sealed_exchange
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
        receipt = sealed_exchange(federation, sites, put, {"ticket": ticket, **exchange})
        committed = commit_round(receipt=receipt, ticket=ticket, stage=opened.outputs["stage"], **state)
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
