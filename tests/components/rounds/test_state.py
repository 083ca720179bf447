from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

from components.agreement.parties import load_parties, load_signing_key
from components.artifacts.documents import digest, sign
from components.artifacts.stores import open_store
from components.errors import DigestMismatchError, IntegrityError, SignatureError
from components.rounds.state import (
    RoundRecord,
    checkpoint_key,
    committed_rounds,
    is_finished,
    newest_record,
    read_checkpoint,
    read_record,
    round_key,
)

if TYPE_CHECKING:
    from tests.components.rounds.conftest import WalkedFederation

MODEL = b"model"
RECORD = RoundRecord(
    federation="walked",
    round_number=1,
    attempt=2,
    ticket="aa" * 32,
    folder="rounds/00001-2",
    receipt="bb" * 32,
    parent="cc" * 32,
    model=digest(MODEL),
    members=("alpha", "gamma"),
    left_out={"beta": "oom"},
    committed_at="2026-11-22T10:00:00+00:00",
)


def signed(record: RoundRecord, owner: str = "coordinator") -> bytes:
    return record.signed(load_signing_key("keys", owner))


def commit(federation: WalkedFederation, number: int, record: RoundRecord) -> None:
    federation.state.create(round_key(number, "round.json"), signed(record))


def test_round_trip(federation: WalkedFederation) -> None:
    assert read_record(signed(RECORD), load_parties("keys")) == RECORD


def test_a_round_that_is_not_the_coordinators_is_refused(federation: WalkedFederation) -> None:
    parties, key = load_parties("keys"), load_signing_key("keys", "coordinator")
    document = json.loads(signed(RECORD))
    body = document["body"]
    refused = [
        signed(RECORD, "alpha"),
        signed(RECORD).replace(b"gamma", b"gamme"),
        sign(key, domain="receipt", signer="coordinator", body=body),
        sign(key, domain="round", signer="coordinator", body=body | {"more": 1}),
        sign(key, domain="round", signer="coordinator", body=body | {"members": None}),
        signed(replace(RECORD, federation="elsewhere")),
        *(
            sign(key, domain="round", signer="coordinator", body={k: v for k, v in body.items() if k != name})
            for name in asdict(RECORD)
        ),
    ]
    for each in refused:
        with pytest.raises(SignatureError):
            read_record(each, parties)


def test_every_flipped_bit_is_refused(federation: WalkedFederation) -> None:
    parties, document = load_parties("keys"), signed(RECORD)
    for position in range(len(document)):
        altered = bytearray(document)
        altered[position] ^= 1 << position % 8
        with pytest.raises(SignatureError):
            read_record(bytes(altered), parties)


def test_nothing_is_committed_at_first(federation: WalkedFederation) -> None:
    assert committed_rounds(federation.state) == []
    assert newest_record(federation.state, load_parties("keys")) is None


def test_the_newest_is_the_last_by_number(federation: WalkedFederation) -> None:
    for number in range(1, 12):
        commit(federation, number, replace(RECORD, round_number=number))
    federation.state.create(round_key(12, "checkpoint-0.safetensors"), b"not committed")
    assert committed_rounds(federation.state) == list(range(1, 12))
    newest = newest_record(federation.state, load_parties("keys"))
    assert newest is not None
    assert newest.round_number == 11


@pytest.mark.parametrize("numbers", [(2,), (1, 3), (1, 2, 4, 5)])
def test_a_gap_is_refused(federation: WalkedFederation, numbers: tuple[int, ...]) -> None:
    for number in numbers:
        commit(federation, number, replace(RECORD, round_number=number))
    with pytest.raises(IntegrityError, match=r"of state must be 1, 2, 3 …, found \["):
        newest_record(federation.state, load_parties("keys"))


def test_a_record_in_another_rounds_place_is_refused(federation: WalkedFederation) -> None:
    """The signature is good; the round it stands for is not the one it was signed for."""
    commit(federation, 1, RECORD)
    commit(federation, 2, RECORD)
    with pytest.raises(IntegrityError):
        newest_record(federation.state, load_parties("keys"))


def test_a_round_is_finished_when_its_report_is_there(federation: WalkedFederation) -> None:
    commit(federation, 1, RECORD)
    assert not is_finished(federation.state, 1)
    federation.finish(1)
    assert is_finished(federation.state, 1)
    assert not is_finished(federation.state, 2)


def test_the_checkpoint_is_the_one_that_was_committed(federation: WalkedFederation) -> None:
    key = checkpoint_key(RECORD)
    assert key == f"rounds/00001/checkpoint-{RECORD.model[:16]}.safetensors"
    federation.state.create(key, MODEL)
    assert read_checkpoint(federation.state, RECORD) == MODEL
    (federation.home / "state" / key).write_bytes(b"mode1")
    with pytest.raises(DigestMismatchError, match="checkpoint of round 1 is not the one it committed"):
        read_checkpoint(open_store("state"), RECORD)
