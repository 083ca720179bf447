"""A federation of three sites with real keys and stores, whose rounds are walked by the steps themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from components.aggregation.secure_aggregation.summing import aggregate_updates
from components.agreement.commitment import commit, commitment_key
from components.agreement.parties import load_parties, load_signing_key
from components.agreement.receipt import Receipt, aggregate_key, receipt_key
from components.agreement.roster import read_roster, roster_key
from components.agreement.site_update import encode_update, read_update, update_key
from components.agreement.workplace import Workplace
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store, create_or_read, open_store, reference
from components.encryption.aggregate_opening.opening import open_aggregate
from components.encryption.keys import initialise_keys
from components.encryption.update_sealing.sealing import seal_update
from components.execution.outcome import Outcome
from components.rounds.roster_call.calling import call_roster
from components.rounds.round_commit.committing import commit_round
from components.rounds.round_opening.opening import ModelShape, OpenedRound, RoundRequest, open_round
from components.rounds.state import round_key

SITES = ("alpha", "beta", "gamma")
SHAPE = ModelShape(features=2, hidden_units=0, classes=3, seed=5)
LENGTH = 3 * 2 + 3
Update = tuple[NDArray[np.float64], int]


@dataclass(frozen=True, kw_only=True)
class WalkedFederation:
    """Every step of a round as one call; each is the product's own."""

    home: Path
    request: RoundRequest
    shape: ModelShape

    @property
    def state(self) -> Store:
        return open_store("state")

    @property
    def exchange(self) -> Store:
        return open_store("exchange")

    def content(self, name: str) -> dict[str, bytes]:
        """Every object of a store."""
        store = open_store(name)
        return {key: store.read(key) for key in store.keys("")}

    def open(
        self, *, features: int = 2, hidden_units: int = 0, classes: int = 3, **asked: object
    ) -> OpenedRound:
        shape = replace(self.shape, features=features, hidden_units=hidden_units, classes=classes)
        return open_round(
            replace(self.request, **asked),  # type: ignore[arg-type]
            shape,
            state_uri="state",
            exchange_uri="exchange",
            keys_uri="keys",
        )

    def place(self, opened: OpenedRound, site: str) -> Workplace:
        return Workplace.open(
            site=site,
            store_uri=f"sites/{site}",
            exchange_uri="exchange",
            keys_uri="keys",
            ticket=opened.reference,
        )

    def commit_to(self, opened: OpenedRound, updates: Mapping[str, Update]) -> dict[str, str]:
        """What `train` does with an update: the reference of each site's commitment."""
        references = dict.fromkeys(SITES, "")
        for site, (values, num_examples) in updates.items():
            place = self.place(opened, site)
            create_or_read(
                place.store, update_key(place.ticket), encode_update(values, num_examples, bytes(32))
            )
            update = read_update(place.store, place.ticket)
            document = commit(place.ticket, site, update.salt, update.content).signed(place.key)
            create_or_read(place.exchange, commitment_key(place.ticket, site), document)
            references[site] = reference(place.exchange, commitment_key(place.ticket, site))
        return references

    def call(
        self,
        opened: OpenedRound,
        commitments: Mapping[str, str],
        reasons: Mapping[str, str] | None = None,
        *,
        min_sites: int = 2,
    ) -> Outcome:
        return call_roster(
            commitments,
            reasons or dict.fromkeys(SITES, ""),
            ticket=opened.reference,
            min_sites=min_sites,
            exchange_uri="exchange",
            keys_uri="keys",
        )

    def seal(self, opened: OpenedRound, roster: str, sites: Sequence[str]) -> dict[str, str]:
        return {
            site: seal_update(self.place(opened, site), roster=roster, keys_uri="keys").reference
            for site in sites
        }

    def aggregate(self, opened: OpenedRound, sealed: Mapping[str, str], *, min_sites: int = 2) -> str:
        return aggregate_updates(
            sealed,
            {},
            ticket=opened.reference,
            min_sites=min_sites,
            exchange_uri="exchange",
            keys_uri="keys",
        ).reference

    def walk(self, opened: OpenedRound, updates: Mapping[str, Update], *, lost: Sequence[str] = ()) -> str:
        """From the sites' updates to the key holder's receipt; `lost` commit but do not seal."""
        roster = self.call(opened, self.commit_to(opened, updates)).reference
        total = self.aggregate(opened, self.seal(opened, roster, [s for s in updates if s not in lost]))
        return open_aggregate(
            total, ticket=opened.reference, min_sites=2, exchange_uri="exchange", keys_uri="keys"
        ).reference

    def commit(self, opened: OpenedRound, receipt: str, *, stage: str = "open") -> Outcome:
        return commit_round(
            receipt=receipt,
            ticket=opened.reference,
            stage=stage,
            state_uri="state",
            exchange_uri="exchange",
            keys_uri="keys",
        )

    def round(self, updates: Mapping[str, Update]) -> OpenedRound:
        """A round committed and reported."""
        opened = self.open()
        self.commit(opened, self.walk(opened, updates))
        self.finish(opened.ticket.round_number)
        return opened

    def finish(self, round_number: int) -> None:
        self.state.create(round_key(round_number, "report.json"), b"{}")

    def receipt_over(self, opened: OpenedRound, aggregate: NDArray[np.float64], **changes: object) -> str:
        """What a key holder signs who does not care what it opened."""
        ticket, content = opened.ticket, tensors.encode({"aggregate": aggregate})
        receipt = Receipt(
            ticket=ticket.digest,
            roster=read_roster(self.exchange.read(roster_key(ticket)), ticket, load_parties("keys")).digest,
            purpose=ticket.purpose,
            members=SITES,
            sealed_sum="00" * 32,
            aggregate=digest(content),
            previous=ticket.previous,
        )
        self.exchange.create(aggregate_key(ticket), content)
        document = replace(receipt, **changes).signed(load_signing_key("keys", "key-holder"))  # type: ignore[arg-type]
        self.exchange.create(receipt_key(ticket), document)
        return reference(self.exchange, receipt_key(ticket))


@pytest.fixture
def federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WalkedFederation:
    """A federation with keys and no round yet, below a fresh CROSSCLOUD_HOME."""
    monkeypatch.setenv("CROSSCLOUD_HOME", str(tmp_path / "home"))
    for name in ("CROSSCLOUD_KEYS", "CROSSCLOUD_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    initialise_keys("walked", SITES, keys_uri="keys", protections=("none",))
    request = RoundRequest(
        federation="walked",
        sites=SITES,
        protection="none",
        local_epochs=2,
        learning_rate=0.05,
        batch_size=16,
        seed=5,
    )
    return WalkedFederation(home=tmp_path / "home", request=request, shape=SHAPE)


@pytest.fixture
def updates() -> dict[str, Update]:
    """One update a site, with unequal counts."""
    generator = np.random.default_rng(7)
    return {site: (generator.normal(0, 0.1, LENGTH), 10 * (n + 1) + 1) for n, site in enumerate(SITES)}
