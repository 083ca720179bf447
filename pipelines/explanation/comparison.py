"""A site's records against the exchange: all that lies there under its name has left it, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.agreement.charter_book import pinned_charter
from components.agreement.pruned import pruned_keys
from components.artifacts.stores import Store
from components.execution.departures import Departure
from pipelines.explanation.account import SiteAccount

_OF_OTHERS = ("requests", "ledger-heads", "pruned", "models")
"""Folders of the exchange that the coordinator writes, whoever they are about."""
_NOTICES = "notices"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was found.

    Attributes:
        same: objects of the exchange that are as the records say.
        erased: departures whose object the coordinator has erased since, by signed lists.
        notices: of the site's agent, which keeps no records: words of a closed list.
        differences: one line each.
    """

    same: int
    erased: int
    notices: int
    differences: tuple[str, ...]


def compare(account: SiteAccount, exchange: Store, keys_uri: str) -> Comparison:
    """Compares all records with the exchange, sizes and digests included.

    Args:
        account: of all rounds.
        exchange: store that all parties read.
        keys_uri: folder of the charters.

    Raises:
        StoreError: the exchange cannot be read.
        SignatureError: what is said to be erased is not signed by the coordinator.
    """
    policy = account.policy
    charter = pinned_charter(keys_uri, policy.charter, policy.next_charter)
    recorded: dict[str, list[Departure]] = {}
    for departure in account.departures:
        if departure.key:
            recorded.setdefault(departure.key, []).append(departure)
    # The set of sharers bears nobody's name: the site that sealed first has written it.
    there = [key for key in exchange.keys("") if author(key) == account.site or key in recorded]
    notices = [key for key in there if key.startswith(f"{_NOTICES}/") and key not in recorded]
    lying = [key for key in there if key not in notices and _is_own(key, account.site, recorded)]
    differences = [line for key in lying for line in _difference(exchange, key, recorded.get(key, ()))]
    missing = [
        key
        for key, departures in recorded.items()
        if key not in set(there) and any(each.state != "begun" for each in departures)
    ]
    erased = set(missing) & pruned_keys(exchange, keys_uri, charter) if missing else set[str]()
    differences += [
        f"{key}: has left the site by its records and is not in the exchange"
        for key in missing
        if key not in erased
    ]
    return Comparison(
        same=len(lying) - len({line.partition(": ")[0] for line in differences} & set(lying)),
        erased=len(erased),
        notices=len(notices),
        differences=tuple(differences),
    )


def author(key: str) -> str:
    """The site that an object of the exchange stands under; empty for the coordinator's and key holder's.

    An object lies in a folder of its author's name or bears it; in the journal behind the step's. Where two
    sites are named, the first is the author.
    """
    folder, *names = key.split("/")
    if folder in _OF_OTHERS or not names:
        return ""
    if folder in ("rounds", "metrics"):
        if len(names) < 3:
            return ""
        kind, name = names[1], names[2].partition(".")[0]
        return name.partition("-")[2] if kind == "journal" else name
    return names[0]


def _is_own(key: str, site: str, recorded: Mapping[str, Sequence[Departure]]) -> bool:
    """Whether an object is for the site to answer for: what it only met there was written by another."""
    return author(key) == site or any(each.state == "sent" for each in recorded[key])


def _difference(exchange: Store, key: str, departures: Sequence[Departure]) -> list[str]:
    if not departures:
        return [f"{key}: lies in the exchange under the site's name and is not in its records"]
    size, sha256 = _measured(exchange, key)
    if any(not each.sha256 or (each.size, each.sha256) == (size, sha256) for each in departures):
        return []
    last = departures[-1]
    return [
        f"{key}: has {size:,} bytes with digest {sha256[:12]} in the exchange, by the site's records "
        f"{last.size or 0:,} with {last.sha256[:12]} have left"
    ]


def _measured(exchange: Store, key: str) -> tuple[int, str]:
    size, hashed = 0, hashlib.sha256()
    with exchange.open(key) as source:
        while block := source.read(1 << 20):
            size += len(block)
            hashed.update(block)
    return size, hashed.hexdigest()
