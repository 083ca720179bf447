from __future__ import annotations

import hashlib

import pytest

from components.encryption import protection
from components.encryption.sealed import SealedSummer
from components.errors import UsageError


def test_names_are_those_of_a_federation_file() -> None:
    assert protection.PROTECTIONS == ("he", "none", "sealed")


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    expected = "unknown protection 'rot13': choose one of he, none, sealed"
    for role in (protection.sealer, protection.summer, protection.opener):
        with pytest.raises(UsageError, match=expected):
            role("rot13", b"")
    with pytest.raises(UsageError, match=expected):
        protection.generate_contexts("rot13")


def test_roles_that_need_masks_are_not_made_without() -> None:
    public, secret = protection.generate_contexts("sealed")
    assert isinstance(protection.summer("sealed", public), SealedSummer)
    with pytest.raises(ValueError, match="need masks under sealed: make a SealedSealer or SealedOpener"):
        protection.sealer("sealed", public)
    with pytest.raises(ValueError, match="need masks under sealed"):
        protection.opener("sealed", secret)


def test_none_has_no_keys() -> None:
    assert protection.generate_contexts("none") == (b"", b"")


def test_the_fingerprint_is_what_sha256sum_prints() -> None:
    assert protection.context_fingerprint(b"context") == hashlib.sha256(b"context").hexdigest()
