from __future__ import annotations

import base64
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.agreement.charter import Charter, SitePublicKeys
from components.agreement.private_keys import load_agreement_key, load_signing_key
from components.agreement.replaced_keys import (
    charter_agreement_key,
    charter_signing_key,
    replace_private_keys,
)
from components.errors import UsageError
from tests.components.agreement.signed_form import AGREEMENT_KEYS, CHARTER, KEYS, furnish


@pytest.fixture(autouse=True)
def furnished(home: Path) -> None:
    for owner in ("alpha", "coordinator", "key-holder"):
        furnish(owner)


def text(key: Any) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def naming_newest(owner: str = "alpha") -> Charter:
    """The next edition, as it takes the keys that alpha has made last."""
    keys = SitePublicKeys(
        signing=text(load_signing_key("keys", owner)), agreement=text(load_agreement_key("keys", owner))
    )
    return replace(CHARTER, edition=2, previous=CHARTER.digest, sites={**CHARTER.sites, owner: keys})


def modes(home: Path, owner: str) -> dict[str, int]:
    return {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (home / "keys" / owner).iterdir()
        if path.suffix == ".key"
    }


def test_each_edition_finds_the_keys_that_it_names(home: Path) -> None:
    assert replace_private_keys("keys", "alpha") == ("signing.replaced-1.key", "agreement.replaced-1.key")
    second = naming_newest()
    assert replace_private_keys("keys", "alpha") == ("signing.replaced-2.key", "agreement.replaced-2.key")
    third = naming_newest()
    signing = [charter_signing_key("keys", "alpha", each) for each in (CHARTER, second, third)]
    agreement = [charter_agreement_key("keys", "alpha", each) for each in (CHARTER, second, third)]
    assert signing[0].private_bytes_raw() == KEYS["alpha"].private_bytes_raw()
    assert agreement[0].private_bytes_raw() == AGREEMENT_KEYS["alpha"].private_bytes_raw()
    assert len({text(key) for key in (*signing, *agreement)}) == 6
    assert [text(key) for key in signing[1:]] == [each.sites["alpha"].signing for each in (second, third)]
    assert text(load_signing_key("keys", "alpha")) == third.sites["alpha"].signing


def test_nothing_is_overwritten_and_all_of_it_is_private(home: Path) -> None:
    before = (home / "keys/alpha/signing.key").read_bytes()
    for _ in range(2):
        replace_private_keys("keys", "alpha")
    assert modes(home, "alpha") == dict.fromkeys(
        [
            f"{name}{part}.key"
            for name in ("signing", "agreement")
            for part in ("", ".replaced-1", ".replaced-2")
        ],
        0o600,
    )
    assert (home / "keys/alpha/signing.replaced-1.key").read_bytes() == before


@pytest.mark.parametrize("owner", ["coordinator", "key-holder"])
def test_who_agrees_on_no_pair_keys_has_a_signing_key_alone(home: Path, owner: str) -> None:
    assert replace_private_keys("keys", owner) == ("signing.replaced-1.key",)
    assert set(modes(home, owner)) == {"signing.key", "signing.replaced-1.key"}
    assert charter_signing_key("keys", owner, CHARTER).private_bytes_raw() == KEYS[owner].private_bytes_raw()


def test_who_has_lost_everything_gets_new_keys_and_cannot_act_under_the_old(home: Path) -> None:
    for path in (home / "keys/alpha").iterdir():
        path.unlink()
    assert replace_private_keys("keys", "alpha") == ()
    charter_signing_key("keys", "alpha", naming_newest())
    for load in (charter_signing_key, charter_agreement_key):
        with pytest.raises(
            UsageError, match="is the one that edition 1 of the charter names for alpha: restore"
        ):
            load("keys", "alpha", CHARTER)


def test_one_that_is_cut_off_leaves_keys_and_is_begun_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two files: what steps read is a whole key of before or of now."""
    real, calls = os.link, []

    def cut(*arguments: Any, **named: Any) -> None:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        real(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", cut)
        with pytest.raises(KeyboardInterrupt):
            replace_private_keys("keys", "alpha")
    assert charter_signing_key("keys", "alpha", CHARTER) is not None
    assert charter_agreement_key("keys", "alpha", CHARTER) is not None
    replace_private_keys("keys", "alpha")
    assert charter_signing_key("keys", "alpha", CHARTER) is not None
    second = naming_newest()
    assert text(charter_agreement_key("keys", "alpha", second)) == second.sites["alpha"].agreement


def test_a_key_set_aside_that_others_may_read_is_told(home: Path) -> None:
    replace_private_keys("keys", "alpha")
    (home / "keys/alpha/signing.replaced-1.key").chmod(0o644)
    with pytest.raises(UsageError, match="has mode 0644 and may be read by others"):
        charter_signing_key("keys", "alpha", CHARTER)
