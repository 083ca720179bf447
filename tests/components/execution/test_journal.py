from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.artifacts.stores import Store
from components.execution.journal import Entry, entries, record
from tests.components.execution.conftest import TICKET

FOLDER = "rounds/00001-1"
TRAIN = Entry(step="train", site="alpha", seconds=1.25, bytes=300)


def test_an_entry_lies_beside_its_ticket(exchange: Store) -> None:
    record("exchange", TICKET, TRAIN)
    record("exchange", TICKET, Entry(step="roster", site="", seconds=0.5))
    assert exchange.keys(f"{FOLDER}/journal") == [
        f"{FOLDER}/journal/roster.json",
        f"{FOLDER}/journal/train-alpha.json",
    ]
    assert json.loads(exchange.read(f"{FOLDER}/journal/train-alpha.json")) == {
        "step": "train",
        "site": "alpha",
        "seconds": 1.25,
        "bytes": 300,
        "bytes_read": 0,
        "findings": [],
    }
    assert entries(exchange, FOLDER) == [Entry(step="roster", site="", seconds=0.5, bytes=0), TRAIN]


def test_what_a_warehouse_read_and_how_records_drifted_is_told(exchange: Store) -> None:
    ingest = Entry(step="ingest", site="beta", seconds=2.0, bytes_read=4096, findings=("class gone",))
    record("exchange", TICKET, ingest)
    assert entries(exchange, FOLDER) == [ingest]


def test_an_entry_of_an_earlier_version_tells_neither(exchange: Store) -> None:
    told = {"step": "train", "site": "alpha", "seconds": 1.25, "bytes": 300}
    exchange.create(f"{FOLDER}/journal/train-alpha.json", json.dumps(told).encode())
    assert entries(exchange, FOLDER) == [TRAIN]


def test_the_first_entry_stands(exchange: Store) -> None:
    record("exchange", TICKET, TRAIN)
    record("exchange", TICKET, Entry(step="train", site="alpha", seconds=0.01))
    assert entries(exchange, FOLDER) == [TRAIN]


def test_attempts_have_journals_of_their_own(exchange: Store) -> None:
    record("exchange", "exchange/rounds/00001-2/ticket.json", TRAIN)
    record("exchange", "exchange/rounds/00001-10/ticket.json", TRAIN)
    assert entries(exchange, FOLDER) == []
    assert entries(exchange, "rounds/00001-2") == [TRAIN]


def test_a_journal_that_cannot_be_written_fails_nothing(home: Path) -> None:
    home.mkdir()
    (home / "exchange").write_text("no folder")
    record("exchange", TICKET, TRAIN)
    assert (home / "exchange").read_text() == "no folder"


@pytest.mark.parametrize(
    ("exchange_uri", "ticket"), [("exchange", "elsewhere/ticket.json"), ("exchange", ""), ("ftp://x", TICKET)]
)
def test_a_journal_that_has_no_place_fails_nothing(home: Path, exchange_uri: str, ticket: str) -> None:
    record(exchange_uri, ticket, TRAIN)
    assert not home.exists()
