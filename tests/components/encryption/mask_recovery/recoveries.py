"""Attempts under `smc` of which parties are lost or lie, and what is in the exchange then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from components.agreement.cutoff import Cutoff, cutoff_key
from components.agreement.dealt_shares import DOMAIN as SHARES
from components.agreement.dealt_shares import shares_key
from components.agreement.private_keys import load_signing_key
from components.agreement.roster import read_commitments
from components.agreement.round_secrets import RoundSecrets, read_secrets
from components.agreement.sharers import Sharers, read_sharers
from components.agreement.unmasking import DOMAIN as UNMASKING
from components.agreement.unmasking import read_unmasking, unmasking_key
from components.artifacts.documents import sign
from components.encryption.masking.attempt_masks import private_sharing_half, sharing_halves
from components.encryption.masking.recovered_masks import Recovered, agreed_sum, recovered_masks
from components.encryption.masking.share_keys import sharing_secrets
from components.encryption.masking.unmask_lock import Locked, lock, open_locks
from tests.components.aggregation.three_sites import ThreeSites
from tests.components.encryption.refusals.walk import assert_exact_sum

FIVE = ("alpha", "beta", "delta", "epsilon", "gamma")


def commit(three: ThreeSites, total: str, members: Sequence[str]) -> None:
    """Opens and commits; the sum is the members' integers bit for bit, the model their mean."""
    before = three.model(three.opened.ticket.model)
    done = three.commit(three.open_sum(total).reference)
    assert done.manifest["sites"] == sorted(members)
    assert_exact_sum(three, members)
    vectors = [three.weighted(site) for site in members]
    total_update = np.sum(vectors, axis=0)
    mean = total_update[:-1] / total_update[-1]
    after = three.model(done.manifest["model"])
    moved = np.concatenate([(after[name] - before[name]).ravel() for name in sorted(after)])
    # Weights are float32: two roundings of numbers below 2.
    np.testing.assert_allclose(moved, mean, rtol=0, atol=2.5e-7)
    assert np.abs(mean).max() > 0.01


def without(sites: Sequence[str], lost: Sequence[str]) -> list[str]:
    return [site for site in sites if site not in lost]


def sharers(three: ThreeSites) -> Sharers:
    return read_sharers(three.exchange, three.opened.ticket, three.attempt().roster())


def fix_cutoff(three: ThreeSites, members: Sequence[str]) -> None:
    """Another set of sites in the place of the one that was fixed, if any."""
    path = three.exchange_folder / cutoff_key(three.opened.ticket)
    roster = three.attempt().roster().digest
    path.write_bytes(Cutoff(roster=roster, members=tuple(members), left_out={}).to_json())


def recovered(three: ThreeSites) -> Recovered:
    """The masks as anybody puts them together who reads the exchange."""
    attempt = three.attempt()
    roster = attempt.roster()
    return recovered_masks(three.exchange, attempt.ticket, attempt.charter, roster, attempt.cutoff(roster))


def drawn(three: ThreeSites, site: str) -> RoundSecrets:
    place = three.place(site)
    return read_secrets(place.store, place.key, three.opened.ticket.digest)


def secrets_of(three: ThreeSites, site: str) -> dict[str, bytes]:
    """A site's Z with everybody on the roster, by its own keys."""
    place, attempt = three.place(site), three.attempt()
    commitments = read_commitments(three.exchange, attempt.ticket, attempt.roster(), attempt.charter)
    own = private_sharing_half(place, drawn(three, site))
    return sharing_secrets(own, sharing_halves(attempt.charter, commitments))


def revealed(three: ThreeSites) -> dict[str, dict[str, bytes]]:
    """All keys that the unmaskings in the exchange give away together, by who gives them."""
    attempt = three.attempt()
    ticket, charter, roster = attempt.ticket, attempt.charter, attempt.roster()
    cutoff, fixed = attempt.cutoff(roster), sharers(three)
    documents = {}
    for site in cutoff.members:
        if three.exchange.exists(unmasking_key(ticket, site)):
            each = read_unmasking(three.exchange, ticket, fixed, cutoff, site, charter=charter)
            parts = {name: getattr(each, name) for name in Locked.__dataclass_fields__}
            documents[site] = Locked(**parts)
    return open_locks(agreed_sum(ticket, charter, roster, fixed, cutoff), fixed.sites, documents)[0]


def body(three: ThreeSites, key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(three.exchange.read(key))["body"]
    return found


def deal_again(three: ThreeSites, site: str, **changes: Any) -> None:
    """A site's shares with changes, signed by itself, in the exchange and in its own store."""
    key = shares_key(three.opened.ticket, site)
    document = sign(
        load_signing_key(three.keys_uri, site),
        domain=SHARES,
        signer=site,
        body=body(three, key) | changes,
    )
    (three.exchange_folder / key).write_bytes(document)
    (kept,) = (three.store_folder(site) / "shares").glob("*.json")
    kept.write_bytes(document)


def unmask_with(three: ThreeSites, site: str, keys: Mapping[str, bytes]) -> None:
    """A site's unmasking that reveals other keys; signed by the site, and locked as it should be."""
    attempt = three.attempt()
    ticket, charter, roster = attempt.ticket, attempt.charter, attempt.roster()
    agreed = agreed_sum(ticket, charter, roster, sharers(three), attempt.cutoff(roster))
    publish_unmasking(three, site, **asdict(lock(agreed, site, secrets_of(three, site), keys)))


def publish_unmasking(three: ThreeSites, site: str, **changes: Any) -> None:
    """A site's unmasking with changes, signed by itself, in the place of the one that is there."""
    key = unmasking_key(three.opened.ticket, site)
    document = sign(
        load_signing_key(three.keys_uri, site),
        domain=UNMASKING,
        signer=site,
        body=body(three, key) | changes,
    )
    (three.exchange_folder / key).write_bytes(document)
