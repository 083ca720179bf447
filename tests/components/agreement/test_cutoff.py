from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from components.agreement.cutoff import Cutoff, cutoff_key, read_cutoff, shortfall_key, sum_key
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectMissingError
from tests.components.agreement.signed_form import OTHER_TICKETS, ROSTER, TICKET

CUTOFF = Cutoff(roster=ROSTER.digest, members=("alpha", "gamma"), left_out={})
LONE = Cutoff(roster=ROSTER.digest, members=("gamma",), left_out={"alpha": "oom"})


def found(exchange: Store, content: bytes) -> Cutoff:
    exchange.create(cutoff_key(TICKET), content)
    return read_cutoff(exchange, TICKET, ROSTER)


@pytest.mark.parametrize("cutoff", [CUTOFF, LONE])
def test_round_trip(exchange: Store, cutoff: Cutoff) -> None:
    assert found(exchange, cutoff.to_json()) == cutoff


def test_members_are_read_once_and_sorted(exchange: Store) -> None:
    content = json.dumps(
        {"roster": ROSTER.digest, "members": ["gamma", "alpha", "gamma"], "left_out": {}}
    ).encode()
    assert found(exchange, content).members == ("alpha", "gamma")


def test_there_is_none_before_it_is_fixed(exchange: Store) -> None:
    with pytest.raises(ObjectMissingError):
        read_cutoff(exchange, TICKET, ROSTER)


def test_digest_is_over_roster_and_members() -> None:
    text = json.dumps({"members": ["alpha", "gamma"], "roster": ROSTER.digest}, separators=(",", ":"))
    assert CUTOFF.digest == hashlib.sha256(text.encode()).hexdigest()
    assert replace(CUTOFF, left_out={"beta": "oom"}).digest == CUTOFF.digest
    assert replace(CUTOFF, members=("alpha",)).digest != CUTOFF.digest
    assert replace(CUTOFF, roster="00" * 32).digest != CUTOFF.digest


@pytest.mark.parametrize("members", [("alpha", "beta"), ("delta",), ("alpha", "gamma", "delta"), ("",)])
def test_a_member_that_the_roster_does_not_name_is_refused(exchange: Store, members: tuple[str, ...]) -> None:
    with pytest.raises(IntegrityError, match="does not follow from its roster"):
        found(exchange, replace(CUTOFF, members=members).to_json())


@pytest.mark.parametrize(
    "roster",
    [
        replace(ROSTER, ticket=OTHER_TICKETS[0].digest),
        replace(ROSTER, commitments=dict(ROSTER.commitments) | {"beta": "a2" * 32}),
        replace(ROSTER, commitments=dict(ROSTER.commitments) | {"alpha": "a2" * 32}),
    ],
    ids=["ticket", "sites", "commitment"],
)
def test_a_cutoff_of_another_roster_is_refused(exchange: Store, roster: Any) -> None:
    with pytest.raises(IntegrityError, match="does not follow from its roster"):
        found(exchange, replace(CUTOFF, roster=roster.digest).to_json())


FORM: dict[str, Any] = {"roster": ROSTER.digest, "members": ["alpha"], "left_out": {}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        *(json.dumps({k: v for k, v in FORM.items() if k != name}).encode() for name in FORM),
        json.dumps(FORM | {"members": None}).encode(),
        json.dumps(FORM | {"members": 2}).encode(),
        json.dumps(FORM | {"members": ["alpha", 2]}).encode(),
        json.dumps(FORM | {"members": [["alpha"]]}).encode(),
        json.dumps(FORM | {"left_out": None}).encode(),
        json.dumps(FORM | {"left_out": ["beta"]}).encode(),
        b"[" * 100_000,
    ],
)
def test_another_form_is_refused(exchange: Store, content: bytes) -> None:
    with pytest.raises(IntegrityError, match="rounds/00007-2 is not in the form this version knows"):
        found(exchange, content)


def test_lies_in_the_folder_of_its_attempt() -> None:
    assert cutoff_key(TICKET) == "rounds/00007-2/cutoff.json"
    assert sum_key(TICKET) == "rounds/00007-2/sum.bin"
    assert shortfall_key(TICKET) == "rounds/00007-2/shortfall.json"
