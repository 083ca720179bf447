"""The second exchange of a round on stores: sites that count, seal their counts and open their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.agreement.noise_terms import MetricsNoise, NoiseTerms
from components.agreement.receipt import aggregate_key
from components.agreement.ticket import read_ticket
from components.agreement.workplace import Workplace
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import key_of, reference
from components.evaluation.count_commitment.counting import count
from components.evaluation.metrics import Evaluation, evaluate_logits, pool
from components.execution.outcome import Outcome
from components.rounds.metrics_opening.opening import open_metrics
from components.training import heads
from components.training.adaptation.adaptation import adapt, adaptation_key, adapted
from components.training.features import read_features
from tests.components.aggregation.three_sites import NOISE, ThreeSites, privacy_policy, set_policy


def noised(*rounds: int, sigma: float = 5.0) -> NoiseTerms:
    """A schedule of four rounds with metrics in these."""
    return replace(NOISE, metrics=MetricsNoise(noise_multiplier=sigma, rounds=rounds))


COUNTED = noised(1, 3)
FOUR = ("alpha", "beta", "delta", "gamma")


@dataclass(frozen=True, kw_only=True)
class CountedSites:
    """A committed round, and the same sites at work under the ticket for its metrics."""

    round: ThreeSites
    committed: Outcome
    metrics: ThreeSites

    @property
    def model(self) -> str:
        """SHA-256 of the committed model."""
        return str(self.committed.manifest["model"])

    def adaptation(self, site: str) -> str:
        """The site's Δw for the committed model."""
        features = self.round.features(site)
        return adapt(self.round.place(site), model=self.model, features=features).reference

    def place(self, site: str) -> Workplace:
        return self.metrics.place(site)

    def count(self, site: str) -> Outcome:
        """The site's commitment to its counts."""
        return count(self.place(site), features=self.metrics.features(site), adaptation=self.adaptation(site))

    def counted(self, sites: Sequence[str] | None = None) -> dict[str, str]:
        return {site: self.count(site).reference for site in (sites or self.round.sites)}

    def sealed(self, sites: Sequence[str] | None = None) -> dict[str, str]:
        """Up to the sealed counts."""
        roster = self.metrics.roster(self.counted(sites))
        if self.metrics.request.protection == "smc":
            self.metrics.share(roster, sites)
        return self.metrics.seal(roster, sites)

    def opened(self, sealed: Mapping[str, str] | None = None) -> str:
        """Reference of the receipt."""
        return self.metrics.open_sum(self.metrics.summed(sealed or self.sealed())).reference

    def total(self) -> NDArray[np.float64]:
        """The opened counts and rows."""
        content = self.metrics.exchange.read(aggregate_key(self.metrics.opened.ticket.folder))
        return tensors.decode_any(content)["aggregate"].astype(np.float64)

    def evaluations(self, site: str) -> tuple[Evaluation, Evaluation]:
        """The committed and the adapted model on the site's test rows, computed beside the product."""
        place = self.round.place(site)
        model = self.round.model(self.model)
        delta = tensors.decode(place.store.read(adaptation_key(self.model)))
        test = read_features(place.store, self.round.features(site)).test
        return (
            evaluate_logits(heads.logits(model, test.features), test.labels),
            evaluate_logits(heads.logits(adapted(model, delta), test.features), test.labels),
        )

    def pooled(self, sites: Sequence[str] | None = None) -> tuple[Evaluation, Evaluation]:
        before, after = zip(*(self.evaluations(site) for site in sites or self.round.sites), strict=True)
        return pool(before), pool(after)


def start(
    protection: str = "sealed",
    *,
    privacy: NoiseTerms | None = None,
    sites: Sequence[str] = FOUR,
    **terms: Any,
) -> ThreeSites:
    """A federation whose sites let their test rows be counted in sums, with its first round open."""
    if privacy is not None:
        terms["privacy"] = privacy
    three = ThreeSites.start(protection=protection, sites=sites, **terms)
    for site in sites:
        allow(three, site, "aggregate")
    return three


def allow(three: ThreeSites, site: str, evaluation: str) -> None:
    """Writes the site's policy anew, with what it lets be known of its figures."""
    charter = three.charter
    budget = {"privacy": privacy_policy(three.name, site)} if charter.privacy else {}
    set_policy(
        three.name,
        site,
        charter=charter.digest,
        protections=(charter.protection,),
        evaluation=evaluation,
        **budget,
    )


def metrics_ticket(three: ThreeSites, committed: Outcome) -> str:
    """Reference of the ticket for the metrics of a committed round; empty where it has none."""
    return open_metrics(
        committed=committed.reference,
        ticket=three.opened.reference,
        exchange_uri=three.exchange_uri,
        keys_uri=three.keys_uri,
    ).reference


def with_metrics(three: ThreeSites) -> CountedSites:
    """Commits a round and opens the exchange of its metrics."""
    committed = three.committed()
    issued = metrics_ticket(three, committed)
    ticket = read_ticket(three.exchange.read(key_of(three.exchange, issued)), three.charter)
    opened = replace(three.opened, ticket=ticket, reference=issued)
    return CountedSites(round=three, committed=committed, metrics=replace(three, opened=opened))


def published(three: ThreeSites, ticket: Any, signer: Any) -> str:
    """Puts a ticket of the test's making where it says that it lies, and returns its reference."""
    document = ticket.signed(signer)
    key = f"{ticket.folder}/ticket-{digest(document)[:8]}.json"
    three.exchange.create(key, document)
    return reference(three.exchange, key)
