"""The pad of a site and the key holder: alike at both ends, nobody else's, and for one attempt alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from components.encryption.masking.holder_pads import generate_contexts, member_pads, require_public, site_pad
from components.encryption.masking.pair_keys import AttemptNames, PrivateHalf
from components.errors import CiphertextError, RefusedError, UsageError

NAMES = AttemptNames(charter="c", ticket="t", purpose="update", roster="r")
LOW_ORDER = (bytes(32), (1).to_bytes(32, "little"))


def half(name: str) -> PrivateHalf:
    return PrivateHalf(name=name, static=X25519PrivateKey.generate(), ephemeral=X25519PrivateKey.generate())


def test_both_ends_derive_the_same_pad_and_sites_different_ones() -> None:
    public, secret = generate_contexts()
    sites = [half("gcp"), half("aws"), half("azure")]
    pads = [site_pad(each, public, NAMES) for each in sites]
    assert tuple(pads) == member_pads(secret, [each.public() for each in sites], NAMES)
    assert len(set(pads)) == 3
    assert all(len(pad) == 32 for pad in pads)


def test_it_is_hkdf_of_both_agreements_over_all_names() -> None:
    public, secret = generate_contexts()
    own = half("gcp")
    holder = X25519PrivateKey.from_private_bytes(secret).public_key()
    fields = [
        b"holder", b"c", b"t", b"update", b"r", b"gcp",
        own.static.public_key().public_bytes_raw(), own.ephemeral.public_key().public_bytes_raw(), public,
    ]  # fmt: skip
    info = b"".join(len(each).to_bytes(8, "big") + each for each in fields)
    secret_bytes = own.static.exchange(holder) + own.ephemeral.exchange(holder)
    kdf = HKDF(algorithm=SHA256(), length=32, salt=b"crosscloud sealed 1", info=info)
    assert site_pad(own, public, NAMES) == kdf.derive(secret_bytes)


@pytest.mark.parametrize("name", ["charter", "ticket", "purpose", "roster"])
def test_another_attempt_has_another_pad(name: str) -> None:
    public, _ = generate_contexts()
    own = half("gcp")
    assert site_pad(own, public, NAMES) != site_pad(own, public, replace(NAMES, **{name: "other"}))


def test_another_key_of_anybody_gives_another_pad() -> None:
    (public, _), (other_public, _) = generate_contexts(), generate_contexts()
    own, fresh = half("gcp"), half("gcp")
    pads = {
        site_pad(each, key, NAMES)
        for each, key in (
            (own, public),
            (own, other_public),
            (replace(own, static=fresh.static), public),
            (replace(own, ephemeral=fresh.ephemeral), public),
        )
    }
    assert len(pads) == 4


@pytest.mark.parametrize("key", [*LOW_ORDER, b"short"])
def test_a_key_that_hides_nothing_is_refused_at_both_ends(key: bytes) -> None:
    _, secret = generate_contexts()
    with pytest.raises(RefusedError, match="the key holder's key is no key or gives an all-zero secret"):
        site_pad(half("gcp"), key, NAMES)
    forged = replace(half("gcp").public(), ephemeral=key)
    with pytest.raises(CiphertextError, match=r"^this sum does not open to a sum of updates: refused$"):
        member_pads(secret, [forged], NAMES)


def test_contexts_of_another_size_are_refused() -> None:
    with pytest.raises(UsageError, match="32 bytes, got 31"):
        require_public(bytes(31))
    with pytest.raises(UsageError, match="32 bytes, got 5"):
        member_pads(b"12345", [], NAMES)
