"""Each party erases what is its own, nothing else: a site in its store, the coordinator in the exchange."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from components.agreement.charter import COORDINATOR, KEY_HOLDER
from components.agreement.charter_book import charter_in_force
from components.agreement.private_keys import SIGNING_KEY, private_folder
from components.agreement.pruned import publish_pruned
from components.agreement.replaced_keys import charter_signing_key
from components.agreement.site_policy import POLICY
from components.agreement.site_retention import old_records, site_retention
from components.artifacts.erasing import Erasable, Erased, by_kind, erase, measured
from components.artifacts.stores import Store, crosscloud_home, open_store
from components.errors import UsageError
from components.rounds.exchange_retention import exchange_retention
from pipelines.explanation.account import own_policy
from pipelines.federation import Federation
from pipelines.keyring import parties
from pipelines.retention.leftovers import (
    Leftover,
    counted,
    erase_leftovers,
    old_drafts,
    old_runs,
    old_scratch,
)

DRAFTS, RUNS, SCRATCH = "drafts of killed processes", "run folders", "temporary folders of killed runs"


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """How long things are kept, and whether they are erased.

    Attributes:
        now: with its time zone.
        older_than: days; None for those of the federation file.
        records_older_than: days for which a site's own officer keeps records of what has left and notes; None
            for ever.
        dry_run: tells what would go, and erases nothing.
    """

    now: datetime
    older_than: int | None = None
    records_older_than: int | None = None
    dry_run: bool = False

    def keep_for(self, days: int) -> timedelta:
        """The time that is asked for, or the federation file's."""
        return timedelta(days=days if self.older_than is None else self.older_than)


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What one party has erased, or would.

    Attributes:
        party: whose it was.
        erased: by kind.
        remark: why something stays; empty for nothing to say.
    """

    party: str
    erased: tuple[Erased, ...]
    remark: str = ""


def pruning_parties(federation: Federation, named: Sequence[str] | None) -> list[str]:
    """Those that are named, or else all that have something of their own and whose keys are on this machine.

    Raises:
        UsageError: a name is no party's, or nobody's keys are here.
    """
    known = parties(federation)
    strangers = [name for name in named or () if name not in known]
    if strangers:
        raise UsageError(f"{strangers[0]!r} is no party of {federation.federation}: {', '.join(known)} are")
    if named:
        return list(dict.fromkeys(named))
    here = [party for party in (*federation.site_names, COORDINATOR) if _is_here(federation, party)]
    if not here:
        raise UsageError(
            f"no party of {federation.federation} has its keys on this machine: each erases its own, where "
            "its keys lie (set CROSSCLOUD_KEYS to their folder)"
        )
    return here


def prune(federation: Federation, party: str, pruning: Pruning) -> Pruned:
    """Erases what a party does not need any more of its own.

    Raises:
        UsageError: its keys, or its policy, are not on this machine.
        StoreError: a store cannot be read, or an object not removed; what was erased before stays erased.
        IntegrityError: what decides over it was altered; nothing is erased.
    """
    if party == KEY_HOLDER:
        return Pruned(party=party, erased=(), remark="all that it keeps says what it has opened: that stays")
    return (
        _prune_exchange(federation, pruning)
        if party == COORDINATOR
        else _prune_site(federation, party, pruning)
    )


def _prune_site(federation: Federation, site: str, pruning: Pruning) -> Pruned:
    own_policy(federation, site)
    uri = federation.site(site).store_uri
    store = open_store(uri)
    keep_for = pruning.keep_for(federation.retention.cache_days)
    found = site_retention(store, keep_for=keep_for, now=pruning.now)
    erasable = list(found.erasable)
    if pruning.records_older_than is not None:
        before = pruning.now - timedelta(days=pruning.records_older_than)
        erasable += old_records(store, before=before)
    drafts = old_drafts(uri, now=pruning.now)
    erased = _erased(store, erasable, drafts, pruning)
    remark = f"rows and features stay while {found.waiting} begins" if found.waiting else ""
    return Pruned(party=site, erased=(*erased, *counted(DRAFTS, drafts)), remark=remark)


def _prune_exchange(federation: Federation, pruning: Pruning) -> Pruned:
    keys_uri = federation.keys_uri
    charter = charter_in_force(keys_uri)
    key = charter_signing_key(keys_uri, COORDINATOR, charter)
    state, exchange = open_store(federation.state_uri), open_store(federation.exchange_uri)
    keep_for = pruning.keep_for(federation.retention.exchange_days)
    erasable = exchange_retention(state, exchange, keys_uri, charter, keep_for=keep_for, now=pruning.now)
    drafts = old_drafts(federation.exchange_uri, now=pruning.now)
    runs = old_runs(crosscloud_home() / federation.federation / "runs", keep_for=keep_for, now=pruning.now)
    scratch = old_scratch(crosscloud_home(), now=pruning.now)

    def publish(keys: Sequence[str]) -> None:
        publish_pruned(exchange, keys, charter=charter, key=key, now=pruning.now)

    erased = _erased(exchange, erasable, [*drafts, *runs, *scratch], pruning, announce=publish)
    left = (*counted(DRAFTS, drafts), *counted(RUNS, runs), *counted(SCRATCH, scratch))
    return Pruned(party=COORDINATOR, erased=(*erased, *left))


def _erased(
    store: Store,
    erasable: Sequence[Erasable],
    leftovers: Sequence[Leftover],
    pruning: Pruning,
    *,
    announce: Callable[[Sequence[str]], None] | None = None,
) -> list[Erased]:
    """Erases objects and leftovers unless it is a dry run; what is announced is so before anything goes."""
    objects = measured(store, erasable)
    if not pruning.dry_run:
        if announce and objects:
            announce([each.key for each, _ in objects])
        erase(store, objects)
        erase_leftovers(leftovers)
    return by_kind(objects)


def _is_here(federation: Federation, party: str) -> bool:
    name = SIGNING_KEY if party == COORDINATOR else POLICY
    try:
        return (private_folder(federation.keys_uri, party) / name).is_file()
    except UsageError:
        # Public keys lie in a bucket, and nothing says where private ones would lie here.
        return False
