"""Attempts of a small federation up to a stage, what malicious parties do there, and what a refusal is.

A malicious party has its own real private keys, signs what it likes and writes where it likes in the
exchange. What it does not have is anybody else's private folder or store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from components.agreement.charter import COORDINATOR
from components.agreement.cutoff import Cutoff, cutoff_key
from components.agreement.private_keys import load_signing_key
from components.agreement.receipt import aggregate_key, receipt_key
from components.agreement.released_sum import shapes_of
from components.agreement.roster import Roster
from components.agreement.sealed_manifest import DOMAIN as MANIFEST
from components.agreement.sealed_manifest import blob_key, manifest_key
from components.agreement.site_update import read_update
from components.artifacts import tensors
from components.artifacts.documents import digest, sign
from components.artifacts.stores import crosscloud_home, local_path, reference
from components.encryption.contexts import secret_context
from components.encryption.framing import HEADER_BYTES
from components.encryption.update_vector import from_sum
from components.errors import CrosscloudError
from components.execution.outcome import MAX_REASON, disclosed_reason
from components.rounds.round_opening.opening import OPEN, OpenedRound
from tests.components.aggregation.three_sites import ThreeSites

THREE = ("alpha", "beta", "gamma")
FOUR = (*THREE, "delta")
STAGES = ("opened", "rostered", "sealed", "summed", "released", "committed")


@dataclass(frozen=True, kw_only=True)
class Walk:
    """An honest attempt as far as it has come; references are empty beyond that."""

    three: ThreeSites
    commitments: dict[str, str]
    roster: str = ""
    sealed: dict[str, str]
    total: str = ""

    @classmethod
    def start(cls, sites: Sequence[str]) -> Walk:
        """The first stage, `opened`."""
        three = ThreeSites.start(protection="sealed", sites=sites)
        return cls(three=three, commitments={}, sealed={})

    def next(self, stage: str) -> Walk:
        """The stage after this one."""
        three = self.three
        if stage == "rostered":
            commitments = three.train()
            return replace(self, commitments=commitments, roster=three.roster(commitments))
        if stage == "sealed":
            return replace(self, sealed=three.seal(self.roster))
        if stage == "summed":
            return replace(self, total=three.aggregate(self.sealed).reference)
        if stage == "released":
            three.release()
        else:
            three.commit(three.open_sum(self.total).reference)
        return self


WalkTo = Callable[..., Walk]


def files(three: ThreeSites) -> dict[str, bytes]:
    """Everything that lies anywhere in the federation, unfinished files too, by path."""
    root = local_path(three.name)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@contextmanager
def refused(
    three: ThreeSites, error: type[CrosscloudError], message: str, *, remembers: Sequence[str] = ()
) -> Iterator[None]:
    """Passes a refusal with this error and text that leaves nothing behind.

    Args:
        three: the attempt.
        error: exactly this class.
        message: part of the one line that is said.
        remembers: prefixes of what whoever refuses may have noted in its own store or about the
            attempt. Nothing else may appear, change or vanish, anywhere.
    """
    before = files(three)
    with pytest.raises(error) as caught:
        yield
    assert type(caught.value) is error, repr(caught.value)
    text = str(caught.value)
    assert message in text, text
    assert len(text.splitlines()) == 1
    disclosed = disclosed_reason(caught.value)
    assert len(disclosed.splitlines()) == 1
    assert len(disclosed) <= MAX_REASON
    assert str(crosscloud_home()) not in disclosed
    after = files(three)
    assert {path: after.get(path) for path in before} == before
    assert [
        path for path in sorted(after.keys() - before.keys()) if not path.startswith(tuple(remembers))
    ] == []


def nothing_is_open(three: ThreeSites) -> bool:
    """Whether no sum of this attempt and no receipt was published."""
    folder = three.opened.ticket.folder
    return not any(three.exchange.exists(key(folder)) for key in (aggregate_key, receipt_key))


def goes_on(three: ThreeSites, members: Sequence[str] = ()) -> None:
    """Takes the attempt to its commit as honest parties do; the sum is exactly that of `members`."""
    sites = members or three.sites
    commitments = three.train(sites)
    sealed = three.seal(three.roster(commitments), sites)
    three.commit(three.open_sum(three.summed(sealed)).reference)
    assert_exact_sum(three, sites)


def assert_exact_sum(three: ThreeSites, members: Sequence[str]) -> None:
    """The opened sum is that of the members' integers, bit for bit."""
    places = [three.place(site) for site in members]
    integers = sum(read_update(place.store, place.ticket).astype(np.int64) for place in places)
    opened = tensors.decode_any(three.exchange.read(aggregate_key(three.opened.ticket.folder)))["aggregate"]
    assert np.array_equal(
        opened,
        from_sum(
            places[0].charter,
            np.asarray(integers),
            round_number=places[0].ticket.round_number,
            shapes=shapes_of(places[0].model()),
        ),
    )


def ask(three: ThreeSites, at: str = "", /, *, signer: str = COORDINATOR, **changes: Any) -> ThreeSites:
    """The attempt under a ticket of the coordinator's making, by default where the product puts it."""
    ticket = replace(three.opened.ticket, **changes)
    key = at or f"{ticket.folder}/ticket.json"
    three.exchange.create(key, ticket.signed(load_signing_key(three.keys_uri, signer)))
    there = reference(three.exchange, key)
    return replace(three, opened=OpenedRound(ticket=ticket, reference=there, stage=OPEN))


def roster_of(three: ThreeSites, **changes: Any) -> Roster:
    """The attempt's roster with changes; not signed yet, see `ThreeSites.sign_roster`."""
    return replace(three.attempt().roster(), **changes)


def without(roster: Roster, *sites: str) -> Roster:
    """A roster that leaves sites out."""
    kept = {site: named for site, named in roster.commitments.items() if site not in sites}
    return replace(roster, commitments=kept, left_out=dict.fromkeys(sites, "timeout"))


def show_cutoff(three: ThreeSites, members: Sequence[str], *, roster: str = "") -> None:
    """Puts a cut-off of the aggregator's making in the place of the one that is there."""
    called = roster or three.attempt().roster().digest
    path = three.exchange_folder / cutoff_key(three.opened.ticket)
    path.unlink(missing_ok=True)
    three.exchange.create(
        cutoff_key(three.opened.ticket),
        Cutoff(roster=called, members=tuple(sorted(members)), left_out={}).to_json(),
    )


def put(three: ThreeSites, key: str, content: bytes) -> str:
    """Overwrites an object of the exchange, as whoever runs the store can; returns its reference."""
    (three.exchange_folder / key).unlink(missing_ok=True)
    three.exchange.create(key, content)
    return reference(three.exchange, key)


def signing_key(three: ThreeSites, owner: str) -> Ed25519PrivateKey:
    """A party's own key, for what the party itself does."""
    return load_signing_key(three.keys_uri, owner)


def secret_key_file(three: ThreeSites) -> bytes:
    """The key holder's secret context of the round."""
    return secret_context(three.attempt())


def integers_of(three: ThreeSites, site: str) -> NDArray[np.int64]:
    """The vector a site has committed to."""
    place = three.place(site)
    return read_update(place.store, place.ticket).astype(np.int64)


def upload(three: ThreeSites, site: str, blob: bytes, *, signer: str = "", **changes: Any) -> None:
    """Puts a sealed update in the place of a site's and the manifest it signs for it."""
    attempt = three.attempt()
    manifest = attempt.manifest(attempt.roster(), site)
    stated: dict[str, Any] = {"blob": digest(blob), "size": len(blob), **changes}
    manifest = replace(manifest, **stated)
    put(three, blob_key(attempt.ticket, site), blob)
    document = sign(signing_key(three, signer or site), domain=MANIFEST, signer=site, body=asdict(manifest))
    put(three, manifest_key(attempt.ticket, site), document)


def blob_of(three: ThreeSites, site: str) -> bytes:
    """What a site has uploaded."""
    return three.exchange.read(blob_key(three.opened.ticket, site))


def words_of(blob: bytes) -> NDArray[np.uint64]:
    """The words of all ciphertexts of a sealed update."""
    return np.frombuffer(blob[HEADER_BYTES:], "<u8").astype(np.uint64)


def with_words(blob: bytes, words: NDArray[np.uint64]) -> bytes:
    """The sealed update with other ciphertexts."""
    return blob[:HEADER_BYTES] + words.astype("<u8").tobytes()
