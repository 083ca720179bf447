from __future__ import annotations

import hashlib
import hmac
import itertools
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from components.encryption.masking.pair_keys import (
    AttemptNames,
    PrivateHalf,
    PublicHalf,
    derive_key,
    is_added,
    pad_key,
    self_key,
    share,
    shared_secret,
    site_masks,
)
from components.errors import RefusedError

NAMES = AttemptNames(charter="c" * 64, ticket="d" * 64, purpose="update", roster="e" * 64)
SEED = bytes(range(32))
FIELD = 2**255 - 19
# https://cr.yp.to/ecdh.html: the points below 2^255 of which every multiple by an X25519 key is zero.
LOW_ORDER = (
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    FIELD - 1,
    FIELD,
    FIELD + 1,
)
# RFC 7748, section 6.1.
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
ALICE_AND_BOB = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


def site(name: str) -> PrivateHalf:
    """A site whose keys follow from its name."""
    raw = [hashlib.sha256(f"{name} {kind}".encode()).digest() for kind in ("static", "ephemeral")]
    static, ephemeral = (X25519PrivateKey.from_private_bytes(key) for key in raw)
    return PrivateHalf(name=name, static=static, ephemeral=ephemeral)


def with_key(half: PublicHalf, kind: str, key: bytes) -> PublicHalf:
    return replace(half, static=key) if kind == "static" else replace(half, ephemeral=key)


def hkdf(salt: bytes, secret: bytes, context: bytes, length: int) -> bytes:
    """RFC 5869 written out."""
    extracted = hmac.digest(salt, secret, "sha256")
    output, block = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(extracted, block + context + bytes([counter]), "sha256")
        output += block
    return output[:length]


def test_this_files_hkdf_is_rfc_5869s() -> None:
    output = hkdf(bytes(range(13)), b"\x0b" * 22, bytes(range(0xF0, 0xFA)), 42)
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert output.hex() == expected


def test_derived_keys_are_hkdf_with_every_field_framed() -> None:
    parts = (b"pad", *NAMES.fields(), b"one", b"", b"three")
    context = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    expected = hkdf(b"crosscloud sealed 1", SEED, context, 32)
    assert derive_key(SEED, "pad", NAMES, b"one", b"", b"three") == expected


def test_the_secret_of_a_pair_is_rfc_7748s() -> None:
    keys = [X25519PrivateKey.from_private_bytes(raw) for raw in (ALICE, BOB)]
    other = site("other")
    alice = PrivateHalf(name="alice", static=keys[0], ephemeral=other.ephemeral)
    bob = PrivateHalf(name="bob", static=keys[1], ephemeral=other.static)
    assert alice.public().static == ALICE_PUBLIC
    z = shared_secret(alice, bob.public())
    assert len(z) == 64
    assert z[:32] == ALICE_AND_BOB
    assert z[32:] == other.ephemeral.exchange(other.static.public_key())
    assert shared_secret(bob, alice.public()) == z


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("high_bit", [0, 2**255])
@pytest.mark.parametrize("kind", ["static", "ephemeral"])
def test_a_point_of_low_order_is_refused_in_either_place(point: int, high_bit: int, kind: str) -> None:
    forged = with_key(site("aws").public(), kind, (point + high_bit).to_bytes(32, "little"))
    with pytest.raises(
        RefusedError, match="a public key of aws is no key or gives an all-zero secret"
    ) as raised:
        shared_secret(site("gcp"), forged)
    assert raised.value.disclosed == "a public key of aws is unusable"


def test_a_small_point_of_high_order_is_taken() -> None:
    assert (
        len(shared_secret(site("gcp"), replace(site("aws").public(), static=(9).to_bytes(32, "little"))))
        == 64
    )


@pytest.mark.parametrize("raw", [b"", bytes(31), b"\x09" * 33])
def test_a_key_of_another_length_is_refused(raw: bytes) -> None:
    with pytest.raises(RefusedError, match="aws is no key"):
        shared_secret(site("gcp"), replace(site("aws").public(), ephemeral=raw))


def test_a_sites_own_name_or_key_is_refused_at_another() -> None:
    gcp, aws = site("gcp"), site("aws").public()
    own = gcp.public()
    copies = [
        with_key(aws, kind, key) for kind in ("static", "ephemeral") for key in (own.static, own.ephemeral)
    ]
    for copied in (*copies, replace(aws, name="gcp"), own):
        with pytest.raises(RefusedError, match="shows this site's own name or key"):
            shared_secret(gcp, copied)


def test_a_pad_is_alike_at_both_ends_and_at_no_other_pair() -> None:
    sites = [site(name) for name in ("aws", "azure", "gcp", "onprem")]
    pads = {}
    for one, other in itertools.permutations(sites, 2):
        z = shared_secret(one, other.public())
        pads[one.name, other.name] = pad_key(z, NAMES, one.public(), other.public())
    assert all(len(pad) == 32 and pads[other, one] == pad for (one, other), pad in pads.items())
    assert len(set(pads.values())) == 6


def test_keys_depend_on_every_name_end_and_kind() -> None:
    one, other = site("aws").public(), site("gcp").public()
    renamed = [replace(NAMES, **{field: "f" * 64}) for field in ("charter", "ticket", "purpose", "roster")]
    z = bytes(range(64))
    keys = [pad_key(z, names, one, other) for names in (NAMES, *renamed)]
    keys += [self_key(SEED, names, "aws") for names in (NAMES, *renamed)]
    keys += [share(z, names, "u", sender="aws", receiver="gcp") for names in (NAMES, *renamed)]
    keys += [pad_key(z, NAMES, with_key(one, kind, bytes(32)), other) for kind in ("static", "ephemeral")]
    keys += [pad_key(z, NAMES, replace(one, name="azure"), other), pad_key(z[::-1], NAMES, one, other)]
    keys += [self_key(SEED, NAMES, "gcp"), self_key(SEED[::-1], NAMES, "aws"), derive_key(SEED, "pad", NAMES)]
    keys += [
        share(z, NAMES, "u", sender="gcp", receiver="aws"),
        share(z, NAMES, "v", sender="aws", receiver="gcp"),
    ]
    assert len(set(keys)) == len(keys) == 24


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)


@given(texts, texts, texts, texts)
def test_names_never_run_into_each_other(first: str, second: str, third: str, fourth: str) -> None:
    """Moving a character from one field into the next gives another key."""
    key = share(SEED, NAMES, first + second, sender=third, receiver=fourth)
    assert share(SEED, NAMES, first, sender=second + third, receiver=fourth) != key
    assert (
        share(SEED, replace(NAMES, roster=NAMES.roster + first), second, sender=third, receiver=fourth) != key
    )


def test_a_seed_has_32_bytes_and_no_name_is_empty() -> None:
    with pytest.raises(ValueError, match="32 bytes, got 31"):
        self_key(bytes(31), NAMES, "aws")
    for field in ("charter", "ticket", "purpose", "roster"):
        with pytest.raises(ValueError, match="must not be empty"):
            replace(NAMES, **{field: ""})


@given(texts, texts)
def test_of_two_sites_one_adds_and_the_other_subtracts(one: str, other: str) -> None:
    assert is_added(one, other) + is_added(other, one) == (one != other)
    assert is_added(one, other) == (one.encode() < other.encode())


def test_the_streams_of_a_site_follow_the_order_of_names() -> None:
    sites = [site(name) for name in ("onprem", "aws", "gcp", "azure")]
    roster = [half.public() for half in sites]
    gcp = sites[2]
    pads = {o.name: pad_key(shared_secret(gcp, o), NAMES, gcp.public(), o) for o in roster if o.name != "gcp"}
    masks = site_masks(NAMES, gcp, roster, SEED)
    assert set(masks.added) == {self_key(SEED, NAMES, "gcp"), pads["onprem"]}
    assert set(masks.subtracted) == {pads["aws"], pads["azure"]}
    assert len(masks.added) == len(masks.subtracted) == 2


def test_the_order_of_the_roster_does_not_matter() -> None:
    sites = [site(name) for name in ("aws", "azure", "gcp", "onprem")]
    expected = site_masks(NAMES, sites[1], [half.public() for half in sites], SEED)
    for order in itertools.permutations(sites):
        masks = site_masks(NAMES, sites[1], [half.public() for half in order], SEED)
        assert set(masks.added) == set(expected.added)
        assert set(masks.subtracted) == set(expected.subtracted)


def test_a_roster_without_exactly_this_site_is_refused() -> None:
    aws, gcp, azure = (site(name) for name in ("aws", "gcp", "azure"))
    roster = [half.public() for half in (aws, gcp, azure)]
    fresh = replace(aws.public(), ephemeral=site("other").public().ephemeral)
    with pytest.raises(RefusedError, match="does not hold aws with its own keys"):
        site_masks(NAMES, aws, roster[1:], SEED)
    with pytest.raises(RefusedError, match="does not hold aws with its own keys"):
        site_masks(NAMES, aws, [fresh, *roster[1:]], SEED)
    for twice in ([*roster, fresh], [*roster, roster[1]], [*roster, replace(roster[1], static=bytes(32))]):
        with pytest.raises(RefusedError, match="names a site twice"):
            site_masks(NAMES, aws, twice, SEED)


def test_the_keys_of_a_sybil_are_refused_where_they_copy_this_sites() -> None:
    aws, gcp = site("aws"), site("gcp")
    sybil = PublicHalf(name="sybil", static=aws.public().static, ephemeral=site("x").public().ephemeral)
    with pytest.raises(RefusedError, match="sybil shows this site's own name or key"):
        site_masks(NAMES, aws, [aws.public(), gcp.public(), sybil], SEED)
