"""Masks of `smc`: they cancel, and what is left after losses follows from what is put together."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import PrivateHalf, PublicHalf, self_key, site_masks
from components.encryption.masking.recoverable_pads import recoverable_masks, recoverable_pad, remaining_masks
from components.errors import RefusedError
from tests.components.encryption.sharing_sites import FIVE, NAMES, half, secret_of

PRIVATE = {site: half(site, "ephemeral") for site in FIVE}
PUBLIC = {site: private.public() for site, private in PRIVATE.items()}


def seed(site: str) -> bytes:
    return secret_of(f"{site} seed")


def masks_of(site: str, own: PrivateHalf | None = None) -> Masks:
    return recoverable_masks(NAMES, own or PRIVATE[site], list(PUBLIC.values()), seed(site))


def net(masks: list[Masks]) -> Counter[bytes]:
    """How often each stream is in a sum; those that cancel are gone."""
    total: Counter[bytes] = Counter()
    for each in masks:
        total.update(each.added)
        total.subtract(each.subtracted)
    return Counter({key: count for key, count in total.items() if count})


@pytest.mark.parametrize("lost", [(), ("gcp",), ("aws", "other"), FIVE[1:]])
def test_what_is_left_follows_from_the_members_self_keys_and_the_lost_sites_scalars(
    lost: tuple[str, ...],
) -> None:
    members = [site for site in FIVE if site not in lost]
    left = remaining_masks(
        NAMES,
        PUBLIC,
        {site: self_key(seed(site), NAMES, site) for site in members},
        {site: PRIVATE[site].ephemeral for site in lost},
    )
    assert net([left]) == net([masks_of(site) for site in members])
    assert len(left.added) + len(left.subtracted) == len(members) * (1 + len(lost))


def test_both_ends_have_one_pad_and_it_needs_one_ephemeral_private_key_only() -> None:
    pads = set()
    for one, other in itertools.combinations(FIVE, 2):
        pad = recoverable_pad(PRIVATE[one].ephemeral, NAMES, PUBLIC[one], PUBLIC[other])
        assert pad == recoverable_pad(PRIVATE[other].ephemeral, NAMES, PUBLIC[other], PUBLIC[one])
        pads.add(pad)
    assert len(pads) == 10


def test_a_pad_is_hkdf_of_the_ephemeral_secret_and_all_names() -> None:
    aws, gcp = PUBLIC["aws"], PUBLIC["gcp"]
    fields = [b"pad", b"cd", b"td", b"update", b"rd"]
    fields += [b"aws", aws.static, aws.ephemeral, b"gcp", gcp.static, gcp.ephemeral]
    info = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    z = PRIVATE["aws"].ephemeral.exchange(PRIVATE["gcp"].ephemeral.public_key())
    expected = HKDF(algorithm=SHA256(), length=32, salt=b"crosscloud sealed 1", info=info).derive(z)
    assert recoverable_pad(PRIVATE["gcp"].ephemeral, NAMES, gcp, aws) == expected


def test_no_stream_is_one_of_sealed() -> None:
    sealed = site_masks(NAMES, PRIVATE["gcp"], list(PUBLIC.values()), seed("gcp"))
    ours = masks_of("gcp")
    assert {*sealed.added, *sealed.subtracted} & {*ours.added, *ours.subtracted} == {ours.added[0]}


@pytest.mark.parametrize("name", ["charter", "ticket", "purpose", "roster"])
def test_no_stream_is_another_attempts(name: str) -> None:
    other = recoverable_masks(
        replace(NAMES, **{name: "x"}), PRIVATE["gcp"], list(PUBLIC.values()), seed("gcp")
    )
    ours = masks_of("gcp")
    assert not {*other.added, *other.subtracted} & {*ours.added, *ours.subtracted}


def test_a_key_of_low_order_is_refused() -> None:
    bad = PublicHalf(name="other", static=PUBLIC["other"].static, ephemeral=bytes(32))
    with pytest.raises(RefusedError, match="a public key of other is no key"):
        recoverable_masks(NAMES, PRIVATE["gcp"], [*(PUBLIC[site] for site in FIVE[:4]), bad], seed("gcp"))


def test_sharers_without_this_site_are_refused() -> None:
    own = replace(PRIVATE["gcp"], ephemeral=X25519PrivateKey.generate())
    with pytest.raises(RefusedError, match="does not hold gcp with its own keys"):
        masks_of("gcp", own)
