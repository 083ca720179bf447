from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.artifacts.documents import canonical_json, framed
from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import (
    AttemptNames,
    PrivateHalf,
    derive_key,
    self_key,
    site_masks,
)
from components.encryption.masking.release_lock import Release, open_releases, release
from components.errors import CiphertextError, RefusedError

PRIME = 70368743669761
NAMES = AttemptNames(charter="c" * 64, ticket="d" * 64, purpose="update", roster="e" * 64)
CLOUDS = ("aws", "azure", "gcp", "onprem")
REFUSED = "the releases do not open this set: refused, void the attempt and run again"


def site(name: str) -> PrivateHalf:
    """A site whose keys follow from its name."""
    raw = [hashlib.sha256(f"{name} {kind}".encode()).digest() for kind in ("static", "ephemeral")]
    static, ephemeral = (X25519PrivateKey.from_private_bytes(key) for key in raw)
    return PrivateHalf(name=name, static=static, ephemeral=ephemeral)


def seed(name: str) -> bytes:
    return hashlib.sha256(f"{name} seed".encode()).digest()


def cutoff_of(members: Sequence[str], names: AttemptNames = NAMES) -> str:
    return hashlib.sha256(f"{names.roster} {sorted(members)}".encode()).hexdigest()


class Federation:
    """Sites of one roster, by name; a site that is not there is never asked."""

    def __init__(self, sites: Sequence[str], names: AttemptNames = NAMES) -> None:
        self.names, self.sites = names, tuple(sites)
        self.private = {name: site(name) for name in sites}
        self.roster = [half.public() for half in self.private.values()]

    def masks(self, name: str) -> Masks:
        return site_masks(self.names, self.private[name], self.roster, seed(name))

    def release(self, name: str, members: Sequence[str], **changes: Any) -> Release:
        used = {"names": self.names, "cutoff": cutoff_of(members, self.names), **changes}
        return release(used["names"], used["cutoff"], members, self.private[name], self.roster, seed(name))

    def releases(self, members: Sequence[str]) -> dict[str, Release]:
        return {name: self.release(name, members) for name in members}

    def open(self, members: Sequence[str], releases: Mapping[str, Release]) -> Masks:
        return open_releases(self.names, cutoff_of(members, self.names), members, self.sites, releases)


def model_stream(key: bytes, slot: int) -> int:
    """A generator as plain as can be: SHA-256 of key and index."""
    return int.from_bytes(hashlib.sha256(key + slot.to_bytes(4, "big")).digest()) % PRIME


def model_mask(masks: Masks, slot: int) -> int:
    added = sum(model_stream(key, slot) for key in masks.added)
    return (added - sum(model_stream(key, slot) for key in masks.subtracted)) % PRIME


def centred(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    signed = values.astype(np.int64)
    return np.where(signed > PRIME // 2, signed - PRIME, signed)


def sets_of(sites: Sequence[str]) -> list[tuple[str, ...]]:
    return [c for size in range(2, len(sites) + 1) for c in itertools.combinations(sites, size)]


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_every_set_of_a_small_federation_opens_to_its_masks(count: int) -> None:
    federation = Federation([f"site-{index}" for index in range(count)])
    masks = {name: federation.masks(name) for name in federation.sites}
    for members in sets_of(federation.sites):
        opened = federation.open(members, federation.releases(members))
        for slot in range(2):
            assert model_mask(opened, slot) == sum(model_mask(masks[name], slot) for name in members) % PRIME


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_every_set_of_a_small_federation_opens_to_its_integer_sum(count: int) -> None:
    federation = Federation([f"site-{index}" for index in range(count)])
    masked, plain = masked_vectors(federation, np.random.default_rng(count))
    for members in sets_of(federation.sites):
        opened = federation.open(members, federation.releases(members))
        np.testing.assert_array_equal(lifted(masked, members, opened), sum(plain[name] for name in members))


words = st.text("aäz-0💡", min_size=1, max_size=8)


@settings(max_examples=30)
@given(st.data())
def test_any_set_of_any_federation_opens_to_its_integer_sum(data: st.DataObject) -> None:
    count = data.draw(st.integers(3, 40))
    sites = [
        f"{text}{index}"
        for index, text in enumerate(data.draw(st.lists(words, min_size=count, max_size=count)))
    ]
    size = data.draw(st.integers(2, count))
    members = data.draw(st.permutations(sites))[:size]
    names = AttemptNames(**{field: data.draw(words) for field in ("charter", "ticket", "purpose", "roster")})
    federation = Federation(sites, names)
    masked, plain = masked_vectors(federation, np.random.default_rng(data.draw(st.integers(0, 2**32))))
    opened = federation.open(members, federation.releases(members))
    np.testing.assert_array_equal(lifted(masked, members, opened), sum(plain[name] for name in members))
    if size < len(sites):
        lost = next(name for name in sites if name not in members)
        assert not set(opened.added) & {self_key(seed(lost), names, lost)}


def masked_vectors(
    federation: Federation, generator: np.random.Generator
) -> tuple[dict[str, NDArray[np.uint64]], dict[str, NDArray[np.int64]]]:
    """Two blocks of every site, masked and plain; magnitudes are up to what K sites may sum to."""
    bound = (PRIME - 1) // 2 // len(federation.sites)
    masked, plain = {}, {}
    for name in federation.sites:
        values = generator.integers(-bound, bound, (2, 8192), endpoint=True)
        values[:, :2] = bound, -bound
        masks = federation.masks(name)
        streams = np.stack([masks.block(index) for index in range(2)])
        masked[name] = ((values % PRIME).astype(np.uint64) + streams) % np.uint64(PRIME)
        plain[name] = values
    return masked, plain


def lifted(
    masked: Mapping[str, NDArray[np.uint64]], members: Sequence[str], opened: Masks
) -> NDArray[np.int64]:
    """The sum over `members`, unmasked and centred."""
    total = sum((masked[name] for name in members), np.zeros((2, 8192), np.uint64)) % np.uint64(PRIME)
    streams = np.stack([opened.block(index) for index in range(2)])
    return centred((total + np.uint64(PRIME) - streams) % np.uint64(PRIME))


def test_one_site_alone_cannot_release() -> None:
    federation = Federation(CLOUDS)
    for members in ((), ("aws",)):
        with pytest.raises(RefusedError, match="a set is two or more different sites of the roster"):
            federation.release("aws", members)
        with pytest.raises(CiphertextError, match=REFUSED):
            federation.open(members, {})


@pytest.mark.parametrize("members", [("azure", "gcp"), ("aws", "gcp", "gcp"), ("aws", "gcp", "stranger")])
def test_a_set_that_is_none_of_the_roster_with_this_site_is_refused(members: tuple[str, ...]) -> None:
    with pytest.raises(RefusedError, match="with aws among them, nothing was released") as raised:
        Federation(CLOUDS).release("aws", members)
    assert raised.value.disclosed


def test_a_release_is_the_same_bytes_every_time_and_small() -> None:
    federation = Federation(CLOUDS)
    first = federation.release("aws", CLOUDS[:3])
    assert first == federation.release("aws", ("gcp", "azure", "aws"))
    document = {"site": first.site, "shares": dict(first.shares), "locked": first.locked}
    assert len(canonical_json(document)) < 1000
    assert set(first.shares) == {"azure", "gcp"}


def test_nothing_readable_in_a_release_masks_anything() -> None:
    federation = Federation(CLOUDS)
    streams = {
        key for name in CLOUDS for masks in [federation.masks(name)] for key in masks.added + masks.subtracted
    }
    shown = [
        text
        for one in federation.releases(CLOUDS[:3]).values()
        for text in (one.locked, *one.shares.values())
    ]
    assert not any(key in base64.b64decode(text) for key in streams for text in shown)
    assert len(set(shown)) == 9


OTHER_NAMES = [replace(NAMES, **{field: "f" * 64}) for field in ("charter", "ticket", "purpose", "roster")]


@pytest.mark.parametrize("changes", [{"cutoff": "0" * 64}, *({"names": names} for names in OTHER_NAMES)])
@pytest.mark.parametrize("equivocating", CLOUDS[:3])
def test_one_member_that_released_for_something_else_keeps_every_lock_shut(
    changes: dict[str, Any], equivocating: str
) -> None:
    members, federation = CLOUDS[:3], Federation(CLOUDS)
    releases = federation.releases(members)
    releases[equivocating] = federation.release(equivocating, members, **changes)
    assert opened_locks(members, releases) == []
    with pytest.raises(CiphertextError, match=REFUSED):
        federation.open(members, releases)


def test_one_member_that_released_for_a_larger_set_keeps_every_lock_shut() -> None:
    federation = Federation(CLOUDS)
    releases = {"aws": federation.release("aws", CLOUDS), **federation.releases(CLOUDS[:3])}
    releases["aws"] = federation.release("aws", CLOUDS)
    for members in (CLOUDS[:3], CLOUDS):
        assert opened_locks(members, releases) == []
        with pytest.raises(CiphertextError, match=REFUSED):
            federation.open(members, releases)


def test_the_locks_of_an_agreed_set_open() -> None:
    """So that the two tests above can tell an open lock from a shut one."""
    assert opened_locks(CLOUDS[:3], Federation(CLOUDS).releases(CLOUDS[:3])) == ["aws", "azure", "gcp"]


def lock_of(member: str, members: Sequence[str], releases: Mapping[str, Release]) -> bytes:
    """The key of a lock from what was published, as PROTOCOL says it; `KeyError` where a share is missing."""
    shares = {name: base64.b64decode(releases[name].shares[member]) for name in members if name != member}
    secret = framed(part for name in sorted(shares) for part in (name.encode(), shares[name]))
    return derive_key(secret, "lock", NAMES, cutoff_of(members).encode(), member.encode())


def opened_locks(members: Sequence[str], releases: Mapping[str, Release]) -> list[str]:
    """Every lock that whoever holds all releases can open for this set."""
    opened = []
    for member in members:
        bound = framed(text.encode() for text in (*vars(NAMES).values(), cutoff_of(members), member))
        try:
            lock = AESGCM(lock_of(member, members, releases))
            lock.decrypt(bytes(12), base64.b64decode(releases[member].locked), bound)
        except (
            KeyError,
            InvalidTag,
        ):  # a share, or the release itself, was not published; or it is another lock
            continue
        opened.append(member)
    return opened


def test_whatever_sets_three_sites_are_shown_locks_open_for_an_agreed_one_only() -> None:
    """The rule that test_release_rule_search.py builds on, for every assignment of sets to sites."""
    sites = CLOUDS[:3]
    federation, sets = Federation(sites), sets_of(CLOUDS[:3])
    options = [[None, *(members for members in sets if name in members)] for name in sites]
    made = {(name, members): federation.release(name, members) for members in sets for name in members}
    opened = 0
    for shown in itertools.product(*options):
        views = dict(zip(sites, shown, strict=True))
        for members in sets:
            published = {
                name: made[name, view] for name, view in views.items() if view is not None and name in members
            }
            agreed = all(views[name] == members for name in members)
            found = opened_locks(members, published)
            assert found == (list(members) if agreed else [])
            opened += agreed
    assert opened == 1 + 3 * 4


def without_share(releases: dict[str, Release]) -> dict[str, Release]:
    shares = {name: text for name, text in releases["aws"].shares.items() if name != "gcp"}
    return {**releases, "aws": replace(releases["aws"], shares=shares)}


def with_shares(releases: dict[str, Release], **shares: Any) -> dict[str, Release]:
    return {**releases, "aws": replace(releases["aws"], shares={**releases["aws"].shares, **shares})}


def swapped_shares(releases: dict[str, Release]) -> dict[str, Release]:
    shares = releases["aws"].shares
    return with_shares(releases, azure=shares["gcp"], gcp=shares["azure"])


def loosely_padded(releases: dict[str, Release]) -> dict[str, Release]:
    """The same 32 bytes, written with one of the two bits set that base64 leaves over."""
    text = releases["aws"].shares["gcp"]
    loose = text[:42] + chr(ord(text[42]) + 1) + text[43:]
    assert base64.b64decode(loose, validate=True) == base64.b64decode(text)
    return with_shares(releases, gcp=loose)


def altered(releases: dict[str, Release], text: Any) -> dict[str, Release]:
    return {**releases, "gcp": replace(releases["gcp"], locked=text)}


def flipped(releases: dict[str, Release], position: int) -> dict[str, Release]:
    raw = bytearray(base64.b64decode(releases["gcp"].locked))
    raw[position] ^= 1
    return altered(releases, base64.b64encode(raw).decode())


SPOILERS: dict[str, Callable[[dict[str, Release]], dict[str, Release]]] = {
    "no releases": lambda _: {},
    "one missing": lambda releases: {name: releases[name] for name in ("aws", "azure")},
    "one too many": lambda releases: {**releases, "onprem": replace(releases["gcp"], site="onprem")},
    "in another's name": lambda releases: {**releases, "gcp": replace(releases["gcp"], site="azure")},
    "under another's name": lambda releases: {**releases, "gcp": releases["azure"]},
    "exchanged": lambda releases: {**releases, "gcp": releases["azure"], "azure": releases["gcp"]},
    "another's lock": lambda releases: altered(releases, releases["azure"].locked),
    "a share missing": without_share,
    "a share too many": lambda releases: with_shares(releases, onprem=releases["aws"].shares["gcp"]),
    "a share to itself": lambda releases: with_shares(releases, aws=releases["aws"].shares["gcp"]),
    "swapped shares": swapped_shares,
    "a short share": lambda releases: with_shares(releases, gcp=base64.b64encode(bytes(31)).decode()),
    "a long share": lambda releases: with_shares(releases, gcp=base64.b64encode(bytes(33)).decode()),
    "another share": lambda releases: with_shares(releases, gcp=base64.b64encode(bytes(32)).decode()),
    "no share": lambda releases: with_shares(releases, gcp=None),
    "no base64": lambda releases: with_shares(releases, gcp="é" * 44),
    "loose base64": lambda releases: with_shares(releases, gcp=releases["aws"].shares["gcp"] + "\n"),
    "another base64": loosely_padded,
    "nothing locked": lambda releases: altered(releases, ""),
    "no text locked": lambda releases: altered(releases, None),
    "cut short": lambda releases: altered(releases, releases["gcp"].locked[:-4]),
    "first byte": lambda releases: flipped(releases, 0),
    "last byte": lambda releases: flipped(releases, -1),
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS.keys())
def test_a_spoiled_release_opens_nothing_and_all_refusals_read_alike(
    spoil: Callable[[dict[str, Release]], dict[str, Release]],
) -> None:
    members, federation = CLOUDS[:3], Federation(CLOUDS)
    releases = federation.releases(members)
    federation.open(members, releases)
    with pytest.raises(CiphertextError) as raised:
        federation.open(members, spoil(releases))
    assert str(raised.value) == REFUSED
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("members", "roster"),
    [
        (("aws", "gcp"), CLOUDS),
        (("aws", "azure", "gcp", "gcp"), CLOUDS),
        (("aws", "azure", "gcp"), ("aws", "azure", "gcp")),
        (("aws", "azure", "gcp"), (*CLOUDS, "stranger")),
        (("aws", "azure", "gcp"), (*CLOUDS, "onprem")),
        (("aws", "azure", "gcp"), ("aws", "azure", "onprem")),
    ],
)
def test_releases_open_their_own_set_of_their_own_roster_only(
    members: tuple[str, ...], roster: tuple[str, ...]
) -> None:
    releases = Federation(CLOUDS).releases(CLOUDS[:3])
    with pytest.raises(CiphertextError, match=REFUSED):
        open_releases(NAMES, cutoff_of(CLOUDS[:3]), members, roster, releases)


KEY, PAD = (base64.b64encode(bytes([value]) * 32).decode() for value in (1, 2))
HONEST = {"pads": {"onprem": PAD}, "self": KEY}
WELL_LOCKED = {
    "not JSON": b"x" * 136,
    "not an object": canonical_json(["y" * 100]),
    "deep": b"[" * 100_000,
    "no pads": canonical_json({"pads": {}, "self": KEY}),
    "another site's pads": canonical_json({"pads": {"onpram": PAD}, "self": KEY}),
    "one stream twice": canonical_json({"pads": {"onprem": KEY}, "self": KEY}),
    "pads that are no object": canonical_json({"pads": "onprem", "self": KEY}),
    "one field more": canonical_json({**HONEST, "seed": KEY}),
    "short key": canonical_json({**HONEST, "self": base64.b64encode(bytes(31)).decode()}),
    "number": canonical_json({**HONEST, "self": 1}),
    "spaces": json.dumps(HONEST).encode(),
    "two selves": b'{"self":1,' + canonical_json(HONEST)[1:],
    "not finite": b'{"pads":{"onprem":NaN},"self":NaN}',
}


@pytest.mark.parametrize("plain", WELL_LOCKED.values(), ids=WELL_LOCKED.keys())
def test_what_a_malicious_member_locks_well_is_still_checked(plain: bytes) -> None:
    members, federation = CLOUDS[:3], Federation(CLOUDS)
    releases = federation.releases(members)
    bound = framed(text.encode() for text in (*vars(NAMES).values(), cutoff_of(members), "gcp"))

    def locked(content: bytes) -> dict[str, Release]:
        closed = AESGCM(lock_of("gcp", members, releases)).encrypt(bytes(12), content, bound)
        return altered(releases, base64.b64encode(closed).decode())

    assert b"\1" * 32 in federation.open(members, locked(canonical_json(HONEST))).added
    with pytest.raises(CiphertextError, match=REFUSED):
        federation.open(members, locked(plain))


def test_a_key_that_cannot_be_used_stops_the_release() -> None:
    federation = Federation(CLOUDS)
    federation.roster[1] = replace(federation.roster[1], ephemeral=bytes(32))
    with pytest.raises(RefusedError, match="a public key of azure is no key"):
        federation.release("aws", CLOUDS[:3])
