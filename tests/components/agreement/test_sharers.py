from __future__ import annotations

import json
from dataclasses import replace

import pytest

from components.agreement.dealt_shares import shares_key
from components.agreement.sharers import (
    Sharers,
    gather_sharers,
    read_dealings,
    read_sharers,
    sharers_key,
)
from components.artifacts.documents import digest
from components.errors import IntegrityError, ObjectMissingError, SignatureError
from tests.components.agreement.signed_form import CHARTER, KEYS, ROSTER, TICKET, Held
from tests.components.agreement.test_dealt_shares import SHARES

DOCUMENTS = {site: replace(SHARES, site=site).signed(KEYS[site]) for site in ("alpha", "gamma")}
SHARERS = Sharers(
    roster=ROSTER.digest, shares={site: digest(each) for site, each in DOCUMENTS.items()}, left_out={}
)


def held(*, sharers: bytes = SHARERS.to_json(), **documents: bytes) -> Held:
    """Both sites' shares, with these instead."""
    objects = {shares_key(TICKET, site): each for site, each in (DOCUMENTS | documents).items() if each}
    return Held(objects | {sharers_key(TICKET): sharers})


def test_are_those_whose_shares_verify() -> None:
    assert gather_sharers(held(), TICKET, ROSTER, CHARTER) == SHARERS


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "failed: no shares"),
        (b"{}", "refused: a document of gamma is not a signed document"),
        (DOCUMENTS["alpha"], "refused: a document that should be gamma's names another signer"),
        (
            replace(SHARES, site="gamma", roster="00" * 32).signed(KEYS["gamma"]),
            "refused: the shares of gamma were dealt for another roster",
        ),
    ],
)
def test_others_are_left_out_with_the_reason(document: bytes, reason: str) -> None:
    found = gather_sharers(held(gamma=document), TICKET, ROSTER, CHARTER)
    assert found.sites == ("alpha",)
    assert found.left_out == {"gamma": reason}


def test_are_read_as_they_were_fixed() -> None:
    assert read_sharers(held(), TICKET, ROSTER) == SHARERS
    assert SHARERS.sites == ("alpha", "gamma")


def test_none_are_fixed_yet() -> None:
    with pytest.raises(ObjectMissingError):
        read_sharers(Held({}), TICKET, ROSTER)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b'{"roster": "rd", "shares": {}}',
        b'{"left_out": {}, "roster": "rd", "shares": []}',
        b'{"left_out": 1, "roster": "rd", "shares": {}}',
    ],
)
def test_what_is_not_in_their_form_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError, match="not in the form this version knows"):
        read_sharers(held(sharers=content), TICKET, ROSTER)


@pytest.mark.parametrize(
    "change",
    [{"roster": "00" * 32}, {"shares": {"beta": "00" * 32}}, {"shares": {**SHARERS.shares, "x": ""}}],
)
def test_what_does_not_follow_from_the_roster_is_refused(change: dict[str, object]) -> None:
    content = json.dumps(json.loads(SHARERS.to_json()) | change).encode()
    with pytest.raises(IntegrityError, match="do not follow from its roster"):
        read_sharers(held(sharers=content), TICKET, ROSTER)


def test_their_digest_binds_roster_and_shares_and_no_reason() -> None:
    assert replace(SHARERS, left_out={"beta": "timeout"}).digest == SHARERS.digest
    for change in ({"roster": "00" * 32}, {"shares": {"alpha": SHARERS.shares["alpha"]}}):
        assert replace(SHARERS, **change).digest != SHARERS.digest
    assert replace(SHARERS, shares={**SHARERS.shares, "gamma": "00" * 32}).digest != SHARERS.digest


def test_every_dealing_is_the_one_that_was_fixed() -> None:
    found = read_dealings(held(), TICKET, ROSTER, SHARERS, CHARTER)
    assert found == {site: replace(SHARES, site=site) for site in DOCUMENTS}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"", "gamma is one of the sharers, but its shares are not there"),
        (b"{}", "the shares of gamma are not those that the sharers were fixed with"),
        (
            replace(SHARES, site="gamma", self_digest="00" * 32).signed(KEYS["gamma"]),
            "the shares of gamma are not those that the sharers were fixed with",
        ),
    ],
)
def test_another_dealing_is_refused(document: bytes, text: str) -> None:
    with pytest.raises(SignatureError, match=text):
        read_dealings(held(gamma=document), TICKET, ROSTER, SHARERS, CHARTER)


def test_a_set_fixed_with_what_does_not_verify_is_refused() -> None:
    forged = replace(SHARES, site="gamma").signed(KEYS["alpha"])
    fixed = replace(SHARERS, shares={**SHARERS.shares, "gamma": digest(forged)})
    with pytest.raises(SignatureError, match="does not verify"):
        read_dealings(held(gamma=forged), TICKET, ROSTER, fixed, CHARTER)
