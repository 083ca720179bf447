from __future__ import annotations

import hashlib

import pytest

from components.encryption import protection
from components.encryption.bfv.sealed import SealedSummer
from components.encryption.masking.masks import Masks
from components.encryption.ring import RingSummer
from components.errors import UsageError


def test_names_are_those_of_a_federation_file() -> None:
    assert protection.PROTECTIONS == ("he", "masked", "none", "sealed", "smc")


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    expected = "unknown protection 'rot13': choose one of he, masked, none, sealed, smc"
    for role in (protection.sealer, protection.summer, protection.opener):
        with pytest.raises(UsageError, match=expected):
            role("rot13", b"")
    with pytest.raises(UsageError, match=expected):
        protection.generate_contexts("rot13")


@pytest.mark.parametrize(
    ("name", "kind"), [("sealed", SealedSummer), ("masked", RingSummer), ("smc", RingSummer)]
)
def test_roles_that_need_masks_are_not_made_without(name: str, kind: type) -> None:
    public, secret = protection.generate_contexts(name)
    assert isinstance(protection.summer(name, public), kind)
    with pytest.raises(ValueError, match=f"need masks under {name}: make a masking_sealer"):
        protection.sealer(name, public)
    with pytest.raises(ValueError, match=f"need masks under {name}"):
        protection.opener(name, secret)


@pytest.mark.parametrize(
    ("name", "context", "message"),
    [
        ("masked", b"", "32 bytes, got 0"),
        ("smc", bytes(32), "smc takes no encryption context, got 32 bytes"),
    ],
)
def test_contexts_of_another_protection_are_refused(name: str, context: bytes, message: str) -> None:
    masks = Masks(added=(bytes(32),), subtracted=())
    with pytest.raises(UsageError, match=message):
        protection.summer(name, context)
    with pytest.raises(UsageError, match=message):
        protection.masking_sealer(name, context, masks, sites=3, values_per_slot=2)
    with pytest.raises(UsageError, match=message):
        protection.unmasking_opener(name, context, masks, sites=3, values_per_slot=2)


def test_none_and_smc_have_no_keys() -> None:
    assert protection.generate_contexts("none") == protection.generate_contexts("smc") == (b"", b"")


def test_the_fingerprint_is_what_sha256sum_prints() -> None:
    assert protection.context_fingerprint(b"context") == hashlib.sha256(b"context").hexdigest()
