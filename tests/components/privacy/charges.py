"""A federation whose sites share noise, and what its sites' ledgers say."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.agreement.commitment import Commitment
from components.agreement.cutoff import shortfall_key
from components.agreement.ledger_head import LedgerHead, first_head, head_after
from components.artifacts.stores import Store, local_path
from components.privacy.charging import (
    open_ledger,
)
from components.privacy.ledger import Ledger
from components.privacy.round_noise import round_event
from components.privacy.zcdp import epsilon, rho
from tests.components.aggregation.three_sites import (
    CLASSES,
    FEATURES,
    NOISE,
    ThreeSites,
    privacy_policy,
    set_policy,
)
from tests.components.agreement.signed_form import NOISED

SHAPES = {"output.bias": (CLASSES,), "output.weight": (CLASSES, FEATURES)}
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


def allow(three: ThreeSites, site: str = "alpha", **budget: Any) -> None:
    """Writes a site's policy, with changes of its budget."""
    policy = privacy_policy("small", site, **budget)
    rules = {"charter": three.charter.digest, "protections": ("sealed",), "privacy": policy}
    set_policy(three.name, site, **rules)


def ledger_of(site: str = "alpha") -> Ledger:
    return open_ledger(privacy_policy("small", site))


def folder_of(site: str = "alpha") -> Path:
    """Where the entries of a site's ledger lie."""
    return local_path(f"small/ledgers/{site}") / ledger_of(site).folder


def cost(*numbers: int) -> float:
    """Epsilon of these rounds together."""
    return epsilon(rho([release_of(number) for number in numbers]), 1e-5)


def release_of(number: int) -> Any:
    return round_event(replace(NOISED, privacy=NOISE, clipping_norm=1.0), number, SHAPES)


def ended(three: ThreeSites) -> ThreeSites:
    """The attempt after this one, which came to nothing before anybody sealed."""
    three.exchange.create(shortfall_key(three.opened.ticket), b"{}")
    return three.next_attempt()


def head_of(*entries: str, since: int = 0) -> LedgerHead:
    """A ledger of entries that a letter each names."""
    digests = tuple(f"{ord(entry):064x}" for entry in entries)
    return LedgerHead(
        length=len(digests), head=head_after(first_head("x", "row"), digests), entries=digests[since:]
    )


def shows(head: LedgerHead | None, site: str = "beta") -> dict[str, Commitment]:
    commitment = Commitment(
        charter="", ticket="", site=site, ephemeral="", commitment="", ledger=asdict(head) if head else None
    )
    return {site: commitment}


def content_of(store: Store) -> dict[str, bytes]:
    """Every object of a store."""
    keys = store.keys()
    return {key: store.read(key) for key in keys}
