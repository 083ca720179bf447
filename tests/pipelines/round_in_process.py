"""What a run does, step by step, without the processes around it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from components.aggregation.secure_aggregation.summing import aggregate_updates
from components.agreement.protections import RELEASE, TRAITS, UNMASK
from components.agreement.workplace import Workplace
from components.artifacts.stores import crosscloud_home
from components.data_processing.feature_augmentation.augmentation import augment
from components.data_processing.record_ingestion.ingestion import RecordSpec, declared_columns, ingest
from components.encryption.aggregate_opening.opening import open_aggregate
from components.encryption.key_sharing.sharing import share_keys
from components.encryption.mask_recovery.unmasking import unmask_sum
from components.encryption.mask_release.releasing import release_masks
from components.encryption.update_sealing.sealing import seal_update
from components.evaluation.model_evaluation.evaluation import evaluate
from components.evaluation.round_report.report import Story, write_report
from components.rounds.roster_call.calling import call_roster
from components.rounds.round_commit.committing import commit_round
from components.rounds.round_opening.opening import RoundRequest, open_round
from components.training.adaptation.adaptation import adapt
from components.training.local_training.training import train
from pipelines.charter_comparison import shape
from pipelines.chartering import ensure_charter
from pipelines.federation import load_federation
from pipelines.readiness import encoder_spec
from tests.conftest import SmallFederation


class RoundInProcess:
    """One run of one round; CROSSCLOUD_HOME is the federation's home.

    Every step is a method that may be left out, or called for fewer sites than there are.
    """

    def __init__(self, made: SmallFederation) -> None:
        """Opens the round, or finds the one that is open."""
        self.federation = load_federation(made.path)
        self.common: dict[str, Any] = {
            "exchange_uri": self.federation.exchange_uri,
            "keys_uri": self.federation.keys_uri,
        }
        self.state: dict[str, Any] = {"state_uri": self.federation.state_uri, **self.common}
        self.charter = ensure_charter(self.federation)
        self.sites = tuple(sorted(self.federation.site_names))
        training = self.federation.training
        request = RoundRequest(
            federation=self.federation.federation,
            sites=self.sites,
            protection=self.federation.protection,
            local_epochs=training.local_epochs,
            learning_rate=training.learning_rate,
            batch_size=training.batch_size,
            seed=training.seed,
        )
        opened = open_round(request, shape(self.federation), **self.state)
        self.opened, self.ticket, self.stage = opened.ticket, opened.reference, opened.stage
        self.features: dict[str, str] = {}
        self.committed_to: dict[str, str] = {}
        self.roster = ""

    def finish(self) -> None:
        """Everything after the ticket, with all sites."""
        self.learn()
        self.go_on()

    def go_on(self) -> None:
        """Everything after the commitments, with the sites that have committed."""
        lifted_by = TRAITS[self.federation.protection].lifted_by
        self.call()
        if lifted_by == UNMASK:
            self.share()
        self.seal()
        self.add()
        if lifted_by == RELEASE:
            self.release()
        elif lifted_by == UNMASK:
            self.unmask()
        self.open()
        self.commit()
        self.report()

    def learn(self, sites: Iterable[str] = ()) -> None:
        """Records, features, update, commitment."""
        for site in sites or self.sites:
            self.features[site] = self._features(site)
            self.committed_to[site] = train(self.place(site), features=self.features[site]).reference

    def call(self) -> None:
        self.roster = call_roster(self.committed_to, {}, ticket=self.ticket, **self.common).reference

    def share(self, sites: Iterable[str] = ()) -> None:
        for site in sites or self.committed_to:
            share_keys(self.place(site), roster=self.roster)

    def seal(self, sites: Iterable[str] = ()) -> None:
        for site in sites or self.committed_to:
            seal_update(self.place(site), roster=self.roster)

    def add(self, sites: Iterable[str] = ()) -> str:
        """Gives the reference of the sum."""
        folder = f"{self.federation.exchange_uri}/{self.opened.folder}"
        sealed = {site: f"{folder}/sealed/{site}.json" for site in sites or self.committed_to}
        self.sum = aggregate_updates(sealed, {}, ticket=self.ticket, **self.common).reference
        return self.sum

    def release(self, sites: Iterable[str] = ()) -> None:
        for site in sites or self.committed_to:
            release_masks(self.place(site))

    def unmask(self, sites: Iterable[str] = ()) -> None:
        for site in sites or self.committed_to:
            unmask_sum(self.place(site))

    def open(self) -> None:
        store = self.federation.key_holder_uri
        opened = open_aggregate(self.sum, ticket=self.ticket, store_uri=store, **self.common)
        self.receipt = opened.reference

    def commit(self) -> None:
        done = commit_round(receipt=self.receipt, ticket=self.ticket, stage=self.stage, **self.state)
        self.model, self.committed = str(done.manifest["model"]), done.reference

    def report(self) -> None:
        """What every site measures, and the page."""
        figures = {site: self._figures(site) for site in self.features}
        story = Story(
            title=self.federation.title,
            method=self.federation.method,
            classes=tuple(self.federation.task.classes),
            clouds={},
        )
        page = str(crosscloud_home() / "page.html")
        write_report(
            story, figures, {}, committed=self.committed, ticket=self.ticket, page=page, **self.state
        )

    def place(self, site: str) -> Workplace:
        """The site at work under the round's ticket."""
        store = self.federation.site(site).store_uri
        return Workplace.open(site=site, store_uri=store, ticket=self.ticket, **self.common)

    def _features(self, site: str) -> str:
        data, task = self.federation.site(site).data, self.federation.task
        spec = RecordSpec(
            source_kind=data.source,
            source_uri=data.uri,
            sql=data.sql,
            template=task.template,
            label_column=task.label_column,
            split_column=task.split.column,
            test_fraction=task.split.test_fraction,
            classes=task.classes,
            columns=declared_columns([column.model_dump() for column in task.columns]),
        )
        place, encoder = self.place(site), encoder_spec(self.federation)
        rows = ingest(place, spec).reference
        text: dict[str, Any] = {"template": task.template, "classes": task.classes}
        return augment(place, rows=rows, encoder=encoder, **text).reference

    def _figures(self, site: str) -> str:
        place, features = self.place(site), self.features[site]
        adaptation = adapt(place, model=self.model, features=features).reference
        measured = {"model": self.model, "features": features, "adaptation": adaptation}
        return evaluate(place, **measured, release="per_site").reference
