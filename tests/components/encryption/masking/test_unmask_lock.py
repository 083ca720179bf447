"""A lock opens for a quorum that unmasks for one and the same set, and for nobody else."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from components.encryption.masking.unmask_lock import AgreedSum, Locked, lock, open_locks
from tests.components.encryption.sharing_sites import FIVE, agreed, secret_of, secrets_of

SHUT = "refused: its lock does not open"


def revealed(site: str) -> dict[str, bytes]:
    return {sharer: secret_of(f"{site} gives for {sharer}") for sharer in FIVE}


def locked(sites: Sequence[str] = FIVE, of: AgreedSum | None = None) -> dict[str, Locked]:
    return {site: lock(of or agreed(), site, secrets_of(site), revealed(site)) for site in sites}


def of(documents: Mapping[str, Locked], sites: Sequence[str]) -> dict[str, Locked]:
    return {site: documents[site] for site in sites}


def test_every_quorum_opens_what_its_members_revealed() -> None:
    documents = locked()
    for size in (3, 4, 5):
        for sites in itertools.combinations(FIVE, size):
            opened, left_out = open_locks(agreed(), FIVE, of(documents, sites))
            assert opened == {site: revealed(site) for site in sites}
            assert left_out == {}


@pytest.mark.parametrize("size", [1, 2])
def test_fewer_open_nothing(size: int) -> None:
    documents = locked()
    for sites in itertools.combinations(FIVE, size):
        assert open_locks(agreed(), FIVE, of(documents, sites)) == ({}, dict.fromkeys(sites, SHUT))


def test_a_set_as_small_as_the_threshold_needs_all_of_it() -> None:
    three = agreed(FIVE[:3])
    documents = locked(FIVE[:3], three)
    opened, _ = open_locks(three, FIVE, documents)
    assert set(opened) == set(FIVE[:3])
    for lost in FIVE[:3]:
        rest = {site: each for site, each in documents.items() if site != lost}
        assert open_locks(three, FIVE, rest)[0] == {}


@pytest.mark.parametrize("other", [agreed(sharers="other"), agreed(cutoff="other")])
def test_who_unmasks_for_another_set_helps_nobody(other: AgreedSum) -> None:
    """Three for one set and two for another, as a coordinator may show them: only the three open."""
    documents = locked(FIVE[:3]) | locked(FIVE[3:], other)
    opened, left_out = open_locks(agreed(), FIVE, documents)
    assert opened == {site: revealed(site) for site in FIVE[:3]}
    assert left_out == dict.fromkeys(FIVE[3:], SHUT)
    assert open_locks(other, FIVE, documents)[0] == {}
    two_and_two = locked(FIVE[:2]) | locked(FIVE[2:4], other)
    assert open_locks(agreed(), FIVE, two_and_two)[0] == open_locks(other, FIVE, two_and_two)[0] == {}


@pytest.mark.parametrize("name", ["charter", "ticket", "purpose", "roster"])
def test_a_lock_is_of_one_attempt(name: str) -> None:
    changed = replace(agreed(), names=replace(agreed().names, **{name: "x"}))
    assert open_locks(changed, FIVE, locked())[0] == {}


@pytest.mark.parametrize("token", ["", "?", base64.b64encode(bytes(32)).decode(), "AAAA"])
def test_a_wrong_token_holds_up_nobody_while_there_are_enough_others(token: str) -> None:
    documents = locked()
    wrong = dict.fromkeys(documents["gcp"].tokens, token)
    documents["gcp"] = replace(documents["gcp"], tokens=wrong)
    opened, left_out = open_locks(agreed(), FIVE, documents)
    assert (set(opened), left_out) == (set(FIVE), {})
    assert set(open_locks(agreed(), FIVE, of(documents, ("aws", "azure", "gcp")))[0]) == {"gcp"}


def test_a_missing_token_is_a_wrong_one() -> None:
    documents = locked()
    documents["gcp"] = replace(documents["gcp"], tokens={})
    assert set(open_locks(agreed(), FIVE, documents)[0]) == set(FIVE)


@pytest.mark.parametrize(
    "change",
    [
        {"own_share": base64.b64encode(bytes(33)).decode()},
        {"own_share": ""},
        {"own_share": "AAAA"},
        {"own_share": base64.b64encode(b"\xff" * 33).decode()},
        {"locked": base64.b64encode(bytes(80)).decode()},
        {"locked": ""},
        {"lock_shares": {}},
        {"lock_shares": dict.fromkeys(FIVE, "AAAA")},
    ],
    ids=repr,
)
def test_a_member_that_locks_wrongly_is_left_out_alone(change: dict[str, Any]) -> None:
    documents = locked()
    documents["gcp"] = replace(documents["gcp"], **change)
    opened, left_out = open_locks(agreed(), FIVE, documents)
    assert left_out == {"gcp": SHUT}
    assert opened == {site: revealed(site) for site in FIVE if site != "gcp"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {site: bytes(32) for site in FIVE[1:]},
        {site: bytes(32) for site in (*FIVE, "stranger")},
        {site: bytes(31) for site in FIVE},
    ],
)
def test_what_is_not_one_key_for_every_sharer_is_left_out(given: dict[str, bytes]) -> None:
    documents = locked()
    documents["gcp"] = lock(agreed(), "gcp", secrets_of("gcp"), given)
    assert open_locks(agreed(), FIVE, documents)[1] == {"gcp": SHUT}


def test_another_members_document_is_refused_in_this_ones_place() -> None:
    documents = locked()
    documents["gcp"] = documents["aws"]
    opened, left_out = open_locks(agreed(), FIVE, documents)
    assert left_out["gcp"] == SHUT
    assert "gcp" not in opened


def test_what_is_published_holds_no_key() -> None:
    published = repr(locked()).encode()
    for site, sharer in itertools.product(FIVE, FIVE):
        assert base64.b64encode(secret_of(f"{site} gives for {sharer}")) not in published
        assert base64.b64encode(secrets_of(site)[sharer]) not in published


def test_every_lock_is_drawn_anew() -> None:
    one, other = (lock(agreed(), "gcp", secrets_of("gcp"), revealed("gcp")) for _ in range(2))
    assert one.own_share != other.own_share
    assert one.locked != other.locked
    assert one.tokens == other.tokens
