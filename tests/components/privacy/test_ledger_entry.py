from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from components.artifacts.documents import canonical_json, digest
from components.errors import IntegrityError
from components.privacy.ledger_entry import Entry, read_entry
from tests.components.privacy.ledger_runs import NOW, charge_for, release

BEFORE = "ab" * 32
ENTRY = Entry(index=7, previous=BEFORE, charge=charge_for(6), event=release(), rho=0.005, time=NOW)


def forged(**changes: Any) -> bytes:
    """With a body of other content whose digest is right."""
    body = {**json.loads(ENTRY.to_json())["body"], **changes}
    return canonical_json({"body": body, "digest": digest(canonical_json(body))})


def test_an_entry_is_read_as_it_was_written() -> None:
    assert read_entry(ENTRY.to_json(), index=7, previous=BEFORE) == ENTRY
    assert forged() == ENTRY.to_json()


def test_the_written_form() -> None:
    document = json.loads(ENTRY.to_json())
    assert document["digest"] == digest(canonical_json(document["body"])) == ENTRY.digest
    assert document["body"]["time"] == "2026-11-22T10:00:05.250000+00:00"
    assert document["body"]["charge"]["ticket"] == f"{6:064x}"
    assert document["body"]["event"]["event"] == "discrete_gaussian_sum"


def test_times_are_written_in_utc() -> None:
    elsewhere = replace(ENTRY, time=NOW.astimezone(timezone(timedelta(hours=-7))))
    assert elsewhere.to_json() == ENTRY.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"event": {"event": "gaussian"}},
        {"rho": "0.005"},
        {"time": "2026-11-22T10:00:05"},
        {"time": 5},
        {"charge": {**json.loads(ENTRY.to_json())["body"]["charge"], "round_number": 0}},
        {"charge": {**json.loads(ENTRY.to_json())["body"]["charge"], "round_number": "7"}},
        {"charge": {**json.loads(ENTRY.to_json())["body"]["charge"], "ticket": "7"}},
        {"charge": {"federation": "hearts"}},
        {"charge": None},
    ],
)
def test_what_is_no_entry_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="entry 7 of the privacy ledger was altered: restore"):
        read_entry(forged(**change), index=7, previous=BEFORE)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"body": 1}', b"[" * 100_000, b"\xff"])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError, match="was altered"):
        read_entry(content, index=7, previous=BEFORE)


@pytest.mark.parametrize(("index", "previous"), [(6, BEFORE), (8, BEFORE), (7, "ac" * 32)])
def test_an_entry_out_of_place_is_refused(index: int, previous: str) -> None:
    with pytest.raises(IntegrityError, match="does not follow the one before"):
        read_entry(ENTRY.to_json(), index=index, previous=previous)


def test_a_form_that_is_not_canonical_is_refused() -> None:
    spaced = json.dumps(json.loads(ENTRY.to_json())).encode()
    with pytest.raises(IntegrityError, match="was altered"):
        read_entry(spaced, index=7, previous=BEFORE)


def test_microseconds_of_a_time_do_not_matter_for_its_form() -> None:
    whole = replace(ENTRY, time=datetime(2026, 1, 1, tzinfo=UTC))
    assert read_entry(whole.to_json(), index=7, previous=BEFORE) == whole
