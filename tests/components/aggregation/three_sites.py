"""Three sites that walk a round step by step on synthetic features; every part of it is real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.aggregation.secure_aggregation.summing import aggregate_updates
from components.agreement.attempt import Attempt
from components.agreement.charter import COORDINATOR, KEY_HOLDER, Charter, least_sum_sites
from components.agreement.charter_book import charter_in_force, propose, sign_edition
from components.agreement.model_store import read_model
from components.agreement.noise_terms import NoiseTerms
from components.agreement.private_keys import (
    AGREEMENT_KEY,
    SIGNING_KEY,
    load_signing_key,
    private_folder,
    write_private,
)
from components.agreement.protections import RELEASE, TRAITS, UNMASK
from components.agreement.released_sum import shapes_of
from components.agreement.roster import Roster
from components.agreement.site_policy import POLICY, PrivacyPolicy, SitePolicy
from components.agreement.site_update import read_update
from components.agreement.workplace import Workplace
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store, create_or_read, local_path, open_store, reference
from components.encryption.aggregate_opening.opening import open_aggregate
from components.encryption.key_sharing.sharing import share_keys
from components.encryption.keys import certify_key, initialise_keys, offered_keys
from components.encryption.mask_recovery.unmasking import unmask_sum
from components.encryption.mask_release.releasing import release_masks
from components.encryption.update_sealing.sealing import seal_update
from components.encryption.update_vector import from_sum
from components.execution.outcome import Outcome
from components.privacy.charging import charge_ticket
from components.rounds.roster_call.calling import call_roster
from components.rounds.round_commit.committing import commit_round
from components.rounds.round_opening.opening import ModelShape, OpenedRound, RoundRequest, genesis, open_round
from components.rounds.state import round_key
from components.training.local_training.training import train

SITES = ("alpha", "beta", "gamma")
ROWS = {"alpha": 40, "beta": 25, "gamma": 61, "delta": 33, "epsilon": 52}
FEATURES, CLASSES = 6, 4
LEARNING_RATE = 0.1
OWNERS = (*SITES, COORDINATOR, KEY_HOLDER)
NOISE = NoiseTerms(
    target_epsilon=8.0,
    delta=1e-5,
    public_population=50_000,
    first_round=1,
    noise_multipliers=(3.0, 2.5, 2.5, 2.0),
    count_weight=0.1,
    rows_per_unit=1,
)
BUDGET = 8.0
"""Epsilon of a site: holds the schedule of NOISE and a second attempt or two."""
_NOISED: dict[str, Any] = {
    "algorithm": "fedsgd",
    "server_optimizer": "adam",
    "values_per_slot": 1,
    "clipping_norm": 1.0,
    "largest_value": 1.0,
}
__all__ = ["AGREEMENT_KEY", "CLASSES", "FEATURES", "OWNERS", "ROWS", "SIGNING_KEY", "SITES", "ThreeSites"]


@dataclass(frozen=True, kw_only=True)
class ThreeSites:
    """One attempt of a federation whose objects lie in folders below `name` in CROSSCLOUD_HOME."""

    name: str
    request: RoundRequest
    shape: ModelShape
    opened: OpenedRound

    @classmethod
    def start(
        cls,
        name: str = "small",
        *,
        protection: str = "none",
        hidden_units: int = 0,
        learning_rate: float = LEARNING_RATE,
        sites: Sequence[str] = SITES,
        **terms: Any,
    ) -> ThreeSites:
        """Makes keys, charter and policies, and opens the first round; `terms` change the charter's.

        With `privacy` among them the sites share noise under `fedsgd`, and each has a budget and a ledger.
        """
        if terms.get("privacy"):
            terms = {**_NOISED, **terms}
        request = RoundRequest(
            federation="small",
            sites=tuple(sites),
            protection=protection,
            local_epochs=2,
            learning_rate=learning_rate,
            batch_size=16,
            seed=3,
        )
        shape = ModelShape(
            features=FEATURES,
            hidden_units=hidden_units,
            classes=CLASSES,
            seed=3,
            server_optimizer=terms.get("server_optimizer", "average"),
        )
        initialise_keys("small", (*sites, COORDINATOR, KEY_HOLDER), keys_uri=f"{name}/keys")
        charter = draft_charter(f"{name}/keys", protection, sites, shape, **terms)
        put_in_force(name, charter)
        certify_key(charter, keys_uri=f"{name}/keys", first_round=1)
        return cls(name=name, request=request, shape=shape, opened=_open(name, request, shape))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of all sites, sorted."""
        return tuple(sorted(self.request.sites))

    @property
    def charter(self) -> Charter:
        """The charter in force."""
        return charter_in_force(self.keys_uri)

    def next_round(self) -> ThreeSites:
        """The next round of the same federation; this one is marked as finished."""
        state = open_store(f"{self.name}/state")
        create_or_read(state, round_key(self.opened.ticket.round_number, "report.json"), b"{}")
        return self.next_attempt()

    def next_attempt(self) -> ThreeSites:
        """What the next run of an unfinished round is given: the same ticket, or one after a void."""
        return replace(self, opened=_open(self.name, self.request, self.shape))

    @property
    def exchange_uri(self) -> str:
        return f"{self.name}/exchange"

    @property
    def keys_uri(self) -> str:
        return f"{self.name}/keys"

    @property
    def state_uri(self) -> str:
        return f"{self.name}/state"

    @property
    def exchange(self) -> Store:
        return open_store(self.exchange_uri)

    @property
    def exchange_folder(self) -> Path:
        return local_path(self.exchange_uri)

    @property
    def keys_folder(self) -> Path:
        return local_path(self.keys_uri)

    def store_folder(self, site: str) -> Path:
        return local_path(f"{self.name}/sites/{site}")

    def place(self, site: str) -> Workplace:
        """The site at work under this attempt's ticket."""
        return Workplace.open(
            site=site,
            store_uri=f"{self.name}/sites/{site}",
            exchange_uri=self.exchange_uri,
            keys_uri=self.keys_uri,
            ticket=self.opened.reference,
        )

    def accepted(self, site: str) -> Workplace:
        """The site at work under a ticket it has accepted and paid for, as `ingest` leaves it."""
        place, now = self.place(site), datetime.now(UTC)
        place.accept(now)
        charge_ticket(place, now=now)
        return place

    def attempt(self) -> Attempt:
        return Attempt.open(self.opened.reference, exchange_uri=self.exchange_uri, keys_uri=self.keys_uri)

    def features(self, site: str) -> str:
        """Writes the site's feature file, once, and returns its reference."""
        store = self.place(site).store
        create_or_read(store, "features/synthetic.safetensors", tensors.encode(_examples(site)))
        return reference(store, "features/synthetic.safetensors")

    def train(self, sites: Sequence[str] | None = None) -> dict[str, str]:
        """Commitment by site."""
        return {
            site: train(self.accepted(site), features=self.features(site), device="cpu").reference
            for site in (self.sites if sites is None else sites)
        }

    def roster(self, commitments: Mapping[str, str], reasons: Mapping[str, str] | None = None) -> str:
        """Calls the roster."""
        called = call_roster(
            commitments,
            reasons or {},
            ticket=self.opened.reference,
            exchange_uri=self.exchange_uri,
            keys_uri=self.keys_uri,
        )
        return called.reference

    def sign_roster(self, roster: Roster, key: str) -> str:
        """Publishes a roster of the test's making at `key`, signed by the coordinator."""
        document = roster.signed(load_signing_key(self.keys_uri, COORDINATOR))
        self.exchange.create(key, document)
        return reference(self.exchange, key)

    def share(self, roster: str, sites: Sequence[str] | None = None) -> dict[str, str]:
        """Reference of the shares by site."""
        return {
            site: share_keys(self.place(site), roster=roster).reference
            for site in (self.sites if sites is None else sites)
        }

    def seal(self, roster: str, sites: Sequence[str] | None = None) -> dict[str, str]:
        """Reference of the manifest by site."""
        return {
            site: seal_update(self.place(site), roster=roster).reference
            for site in (self.sites if sites is None else sites)
        }

    def sealed(self) -> dict[str, str]:
        """Everything up to the sealed updates of all sites."""
        roster = self.roster(self.train())
        if TRAITS[self.request.protection].lifted_by == UNMASK:
            self.share(roster)
        return self.seal(roster)

    def aggregate(self, sealed: Mapping[str, str], reasons: Mapping[str, str] | None = None) -> Outcome:
        return aggregate_updates(
            sealed,
            reasons or {},
            ticket=self.opened.reference,
            exchange_uri=self.exchange_uri,
            keys_uri=self.keys_uri,
        )

    def release(self, sites: Sequence[str] | None = None) -> dict[str, str]:
        """Reference of the release by site; of all members unless they are named."""
        attempt = self.attempt()
        members = attempt.cutoff(attempt.roster()).members if sites is None else sites
        return {site: release_masks(self.place(site)).reference for site in members}

    def unmask(self, sites: Sequence[str] | None = None) -> dict[str, str]:
        """Reference of the unmasking by site; of all members unless they are named."""
        attempt = self.attempt()
        members = attempt.cutoff(attempt.roster()).members if sites is None else sites
        return {site: unmask_sum(self.place(site)).reference for site in members}

    def summed(self, sealed: Mapping[str, str]) -> str:
        """The aggregator's sum, of which everybody in it has lifted its masks where there are any."""
        summed = self.aggregate(sealed).reference
        lifted_by = TRAITS[self.request.protection].lifted_by
        if lifted_by == RELEASE:
            self.release()
        elif lifted_by == UNMASK:
            self.unmask()
        return summed

    def open_sum(self, sealed_sum: str) -> Outcome:
        return open_aggregate(
            sealed_sum,
            ticket=self.opened.reference,
            store_uri=f"{self.name}/key-holder",
            exchange_uri=self.exchange_uri,
            keys_uri=self.keys_uri,
        )

    def commit(self, receipt: str) -> Outcome:
        return commit_round(
            receipt=receipt,
            ticket=self.opened.reference,
            stage=self.opened.stage,
            state_uri=self.state_uri,
            exchange_uri=self.exchange_uri,
            keys_uri=self.keys_uri,
        )

    def committed(self) -> Outcome:
        """The whole round up to the commit."""
        return self.commit(self.open_sum(self.summed(self.sealed())).reference)

    def model(self, digest: str) -> tensors.Tensors:
        return read_model(self.exchange, digest)

    def weighted(self, site: str) -> NDArray[np.float64]:
        """[n·Δw, n] of a site, from what it stored."""
        place = self.place(site)
        return from_sum(
            place.charter,
            read_update(place.store, place.ticket),
            round_number=place.ticket.round_number,
            shapes=shapes_of(place.model()),
        )


def draft_charter(
    keys_uri: str, protection: str, sites: Sequence[str], shape: ModelShape, **terms: Any
) -> Charter:
    """The first edition for parties whose cards lie at `keys_uri`."""
    keys, coordinator, key_holder = offered_keys("small", sites, keys_uri=keys_uri)
    masked = TRAITS[protection].masked
    few = 2 if not masked else least_sum_sites(len(sites), terms.get("colluding_sites", 1))
    return Charter(
        **{
            "federation": "small",
            "edition": 1,
            "previous": "",
            "sites": keys,
            "coordinator": coordinator,
            "key_holder": key_holder,
            "rotation_rounds": 100,
            "protection": protection,
            "values_per_slot": 2,
            "algorithm": "fedavg",
            "server_optimizer": "average",
            "genesis": digest(genesis(shape)),
            "encoder": "",
            "colluding_sites": 1,
            "min_sum_sites": few,
            "min_sites": max(few, 3) if masked else 2,
            "clipping_norm": 100.0,
            "largest_value": 10.0,
            "max_examples": 1000,
            "local_epochs": 10,
            "learning_rate": 1000.0,
            "batch_size": 1000,
            "max_rounds": 100,
            **terms,
        }
    )


def put_in_force(name: str, charter: Charter) -> None:
    """Proposes a charter, signs it as everybody and pins it in everybody's policy."""
    keys_uri = f"{name}/keys"
    propose(keys_uri, charter)
    for signer in charter.signers:
        sign_edition(keys_uri, charter, signer, load_signing_key(keys_uri, signer))
        noised = charter.privacy is not None and signer in charter.sites
        budget = {"privacy": privacy_policy(name, signer)} if noised else {}
        set_policy(name, signer, charter=charter.digest, protections=(charter.protection,), **budget)


def privacy_policy(name: str, site: str, **changes: Any) -> PrivacyPolicy:
    """A site's budget, whose ledger lies in a folder of its own."""
    return PrivacyPolicy(
        **{
            "dataset": f"{site}-visits",
            "ledger_uri": f"{name}/ledgers/{site}",
            "epsilon": BUDGET,
            "delta": 1e-5,
            **changes,
        }
    )


def set_policy(name: str, owner: str, **rules: Any) -> None:
    """Replaces a party's policy; stores are those of `ThreeSites` unless they are given."""
    path = private_folder(f"{name}/keys", owner) / POLICY
    path.unlink(missing_ok=True)
    stores = (f"{name}/sites/{owner}", f"{name}/exchange")
    write_private(path, SitePolicy(**{"stores": stores, **rules}).to_yaml())


def _open(name: str, request: RoundRequest, shape: ModelShape) -> OpenedRound:
    uris = {"state_uri": f"{name}/state", "exchange_uri": f"{name}/exchange", "keys_uri": f"{name}/keys"}
    return open_round(request, shape, **uris)


def _examples(site: str) -> dict[str, NDArray[np.generic]]:
    """Rows around one centre a class, more of some classes at some sites; every third is a test row."""
    centres = np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    generator = np.random.default_rng(list(ROWS).index(site))
    shares = generator.dirichlet(np.ones(CLASSES))
    labels = generator.choice(CLASSES, size=ROWS[site], p=shares).astype(np.int64)
    features = centres[labels] + generator.normal(size=(ROWS[site], FEATURES))
    return {
        "features": features.astype(np.float32),
        "labels": labels,
        "is_test": (np.arange(ROWS[site]) % 3 == 0).astype(np.uint8),
    }
