"""No block of a stream ever masks two vectors.

If it did, the difference of the two would lie open. A small federation seals for two charters, two
tickets, two purposes and two rosters, always with the same keys and seeds, so that nothing but the
names tells its streams apart; what the real sealer asks of the masks is recorded on the way.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from components.encryption.bfv.packing import Packing
from components.encryption.bfv.sealed import SealedOpener, SealedSealer, SealedSummer, generate_contexts
from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import AttemptNames, PrivateHalf, site_masks
from components.encryption.masking.release_lock import open_releases, release

SITES = ("aws", "azure", "gcp", "onprem")
LENGTH = 20_000
PACKING = Packing(values_per_slot=2, sites=len(SITES))
ATTEMPTS = [
    AttemptNames(charter=charter, ticket=ticket, purpose=purpose, roster=roster)
    for charter, ticket, purpose, roster in itertools.product(
        ("charter 1", "charter 2"),
        ("round 1, attempt 1", "round 1, attempt 2", "round 2, attempt 1"),
        ("update", "metrics"),
        ("roster 1", "roster 2"),
    )
]


class Use(NamedTuple):
    """One site that put one block of one stream over one block of slots."""

    site: str
    sign: int
    slots: str


Uses = dict[tuple[bytes, int], set[Use]]


@dataclass(frozen=True, kw_only=True)
class RecordedMasks(Masks):
    """Masks that note what each block of each stream is put over."""

    site: str
    uses: Uses = field(repr=False)

    def mask(self, slots: NDArray[np.uint64], block: int) -> NDArray[np.uint64]:
        content = hashlib.sha256(slots.tobytes()).hexdigest()
        for keys, sign in ((self.added, 1), (self.subtracted, -1)):
            for key in keys:
                self.uses[key, block].add(Use(self.site, sign, content))
        return super().mask(slots, block)


def site(name: str) -> PrivateHalf:
    raw = [hashlib.sha256(f"{name} {kind}".encode()).digest() for kind in ("static", "ephemeral")]
    static, ephemeral = (X25519PrivateKey.from_private_bytes(key) for key in raw)
    return PrivateHalf(name=name, static=static, ephemeral=ephemeral)


PRIVATE = {name: site(name) for name in SITES}
ROSTER = [half.public() for half in PRIVATE.values()]
SEEDS = {name: hashlib.sha256(f"{name} seed".encode()).digest() for name in SITES}


@pytest.fixture(scope="module")
def contexts() -> tuple[bytes, bytes]:
    return generate_contexts()


def vector(name: str, text: object) -> NDArray[np.int32]:
    generator = np.random.default_rng(list(hashlib.sha256(f"{name} {text}".encode()).digest()))
    return generator.integers(-PACKING.bound, PACKING.bound, LENGTH, dtype=np.int32, endpoint=True)


def seal(public: bytes, names: AttemptNames, name: str, values: NDArray[np.int32], uses: Uses) -> bytes:
    masks = site_masks(names, PRIVATE[name], ROSTER, SEEDS[name])
    recorded = RecordedMasks(added=masks.added, subtracted=masks.subtracted, site=name, uses=uses)
    return b"".join(SealedSealer(public, PACKING, recorded).seal(values))


def misused(uses: Uses) -> list[tuple[bytes, int]]:
    """Blocks of streams that are not used once, or once with either sign by the two sites of a pair."""
    wrong = []
    for where, found in uses.items():
        signs = sorted(use.sign for use in found)
        if signs not in ([1], [-1, 1]) or len({use.site for use in found}) != len(found):
            wrong.append(where)
    return wrong


def masked_with(uses: Uses, names: AttemptNames, public: bytes, text: object) -> None:
    for name in SITES:
        seal(public, names, name, vector(name, text), uses)


def test_no_block_of_a_stream_masks_two_vectors(contexts: tuple[bytes, bytes]) -> None:
    uses: Uses = defaultdict(set)
    for names in ATTEMPTS:
        masked_with(uses, names, contexts[0], names)
    blocks = PACKING.blocks(LENGTH)
    assert blocks == 2
    pairs = len(SITES) * (len(SITES) - 1) // 2
    assert len(uses) == len(ATTEMPTS) * blocks * (len(SITES) + pairs)
    assert sum(len(found) for found in uses.values()) == len(ATTEMPTS) * blocks * (len(SITES) + 2 * pairs)
    assert misused(uses) == []


def test_a_retry_puts_the_same_stream_over_the_same_vector(contexts: tuple[bytes, bytes]) -> None:
    uses: Uses = defaultdict(set)
    masked_with(uses, ATTEMPTS[0], contexts[0], "x")
    once = {where: set(found) for where, found in uses.items()}
    masked_with(uses, ATTEMPTS[0], contexts[0], "x")
    assert uses == once
    assert misused(uses) == []


@pytest.mark.parametrize("same", ["charter", "ticket", "purpose", "roster"])
def test_the_search_finds_a_name_that_was_forgotten(same: str, contexts: tuple[bytes, bytes]) -> None:
    """Two attempts that differ in one name only, had that name been left out of the keys."""
    uses: Uses = defaultdict(set)
    other = replace(ATTEMPTS[0], **{same: "another"})
    for names in (ATTEMPTS[0], other):
        masked_with(uses, replace(names, **{same: "left out"}), contexts[0], names)
    assert set(misused(uses)) == set(uses)


def test_no_two_blocks_of_all_those_streams_are_alike() -> None:
    seen = set()
    for names in ATTEMPTS:
        for name in SITES:
            masks = site_masks(names, PRIVATE[name], ROSTER, SEEDS[name])
            seen |= {
                Masks(added=(key,), subtracted=()).block(block).tobytes()[:64]
                for key in masks.added
                for block in (0, 1)
            }
    pairs = len(SITES) * (len(SITES) - 1) // 2
    assert len(seen) == len(ATTEMPTS) * 2 * (len(SITES) + pairs)


@pytest.mark.parametrize("members", [SITES, ("aws", "gcp", "onprem"), ("azure", "gcp", "onprem")])
def test_what_was_recorded_is_a_federation_whose_sum_opens(
    members: Sequence[str], contexts: tuple[bytes, bytes]
) -> None:
    public, secret = contexts
    names = ATTEMPTS[0]
    uses: Uses = defaultdict(set)
    blobs = {name: seal(public, names, name, vector(name, "x"), uses) for name in SITES}
    releases = {name: release(names, "ud", members, PRIVATE[name], ROSTER, SEEDS[name]) for name in members}
    summed = b"".join(SealedSummer(public, 2).add([io.BytesIO(blobs[name]) for name in members], LENGTH))
    opener = SealedOpener(secret, PACKING, open_releases(names, "ud", members, SITES, releases))
    expected = np.sum([vector(name, "x") for name in members], axis=0, dtype=np.int64)
    np.testing.assert_array_equal(opener.open(io.BytesIO(summed), LENGTH), expected)
