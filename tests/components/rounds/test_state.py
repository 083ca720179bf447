from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from components.agreement.charter import Charter
from components.agreement.private_keys import load_signing_key
from components.artifacts.documents import digest, sign
from components.artifacts.stores import Store, open_store
from components.errors import DigestMismatchError, IntegrityError, SignatureError
from components.rounds.state import (
    RoundRecord,
    checkpoint_key,
    committed_rounds,
    is_finished,
    newest_record,
    next_round_number,
    read_checkpoint,
    read_record,
    record_of,
    records,
    round_key,
    standing_record,
)
from tests.components.aggregation.three_sites import ThreeSites, put_in_force
from tests.components.rounds.walks import walk

KEYS = "small/keys"
MODEL = b"model"
RECORD = RoundRecord(
    charter="",
    federation="small",
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


@pytest.fixture
def three(home: Path) -> ThreeSites:
    return walk("open", "none").three


@pytest.fixture
def record(three: ThreeSites) -> RoundRecord:
    return replace(RECORD, charter=three.charter.digest)


@pytest.fixture
def state(three: ThreeSites) -> Store:
    return open_store(three.state_uri)


def signed(record: RoundRecord, owner: str = "coordinator") -> bytes:
    return record.signed(load_signing_key(KEYS, owner))


def commit(state: Store, number: int, record: RoundRecord) -> None:
    state.create(round_key(number, "round.json"), signed(record))


def void(state: Store, *numbers: int) -> None:
    for number in numbers:
        state.create(round_key(number, "void.json"), b"{}")


def next_edition(charter: Charter, **changes: object) -> Charter:
    edition = replace(charter, edition=charter.edition + 1, previous=charter.digest, **changes)  # type: ignore[arg-type]
    put_in_force("small", edition)
    return edition


def test_round_trip(three: ThreeSites, record: RoundRecord) -> None:
    assert read_record(signed(record), three.charter) == record


def test_a_round_that_is_not_the_coordinators_is_refused(three: ThreeSites, record: RoundRecord) -> None:
    key = load_signing_key(KEYS, "coordinator")
    body = json.loads(signed(record))["body"]
    refused = [
        signed(record, "alpha"),
        signed(record).replace(b"gamma", b"gamme"),
        sign(key, domain="receipt", signer="coordinator", body=body),
        sign(key, domain="round", signer="coordinator", body=body | {"more": 1}),
        sign(key, domain="round", signer="coordinator", body=body | {"members": None}),
        signed(replace(record, federation="elsewhere")),
        signed(replace(record, charter="0" * 64)),
        *(
            sign(key, domain="round", signer="coordinator", body={k: v for k, v in body.items() if k != name})
            for name in asdict(record)
        ),
    ]
    for each in refused:
        with pytest.raises(SignatureError):
            read_record(each, three.charter)


def test_every_flipped_bit_is_refused(three: ThreeSites, record: RoundRecord) -> None:
    charter, document = three.charter, signed(record)
    for position in range(len(document)):
        altered = bytearray(document)
        altered[position] ^= 1 << position % 8
        with pytest.raises(SignatureError):
            read_record(bytes(altered), charter)


def test_nothing_is_committed_at_first(three: ThreeSites, state: Store) -> None:
    assert committed_rounds(state) == []
    assert next_round_number(state) == 1
    assert newest_record(state, KEYS, three.charter) is None


def test_the_newest_is_the_last_by_number(three: ThreeSites, state: Store, record: RoundRecord) -> None:
    for number in range(1, 12):
        commit(state, number, replace(record, round_number=number))
    state.create(round_key(12, "checkpoint-0.safetensors"), b"not committed")
    assert committed_rounds(state) == list(range(1, 12))
    assert next_round_number(state) == 12
    newest = newest_record(state, KEYS, three.charter)
    assert newest is not None
    assert newest.round_number == 11


@pytest.mark.parametrize("numbers", [(2,), (1, 3), (1, 2, 4, 5)])
def test_a_gap_is_refused(
    three: ThreeSites, state: Store, record: RoundRecord, numbers: tuple[int, ...]
) -> None:
    for number in numbers:
        commit(state, number, replace(record, round_number=number))
    with pytest.raises(IntegrityError, match=r"of small/state must be 1, 2, 3 …, found \["):
        newest_record(state, KEYS, three.charter)
    with pytest.raises(IntegrityError):
        next_round_number(state)


class TestVoidedRounds:
    @pytest.mark.parametrize(
        "rounds",
        [
            ((), (1,), 2),
            ((), (1, 2), 3),
            ((1,), (2,), 3),
            ((2,), (1,), 3),
            ((1, 4), (2, 3), 5),
            ((1, 2), (), 3),
        ],
    )
    def test_fill_the_gaps_and_use_their_numbers_up(
        self,
        three: ThreeSites,
        state: Store,
        record: RoundRecord,
        rounds: tuple[tuple[int, ...], tuple[int, ...], int],
    ) -> None:
        committed, voided, following = rounds
        void(state, *voided)
        for number in committed:
            commit(state, number, replace(record, round_number=number))
        assert committed_rounds(state) == list(committed)
        assert next_round_number(state) == following
        newest = newest_record(state, KEYS, three.charter)
        assert (newest.round_number if newest else None) == (committed[-1] if committed else None)

    @pytest.mark.parametrize(("committed", "voided"), [((), (2,)), ((1,), (3,)), ((3,), (1,))])
    def test_leave_no_gap_either(
        self, state: Store, record: RoundRecord, committed: tuple[int, ...], voided: tuple[int, ...]
    ) -> None:
        void(state, *voided)
        for number in committed:
            commit(state, number, replace(record, round_number=number))
        with pytest.raises(IntegrityError, match=r"must be 1, 2, 3 …"):
            committed_rounds(state)

    def test_are_not_finished(self, state: Store) -> None:
        void(state, 1)
        assert not is_finished(state, 1)


def test_a_record_in_another_rounds_place_is_refused(
    three: ThreeSites, state: Store, record: RoundRecord
) -> None:
    """The signature is good; the round it stands for is not the one it was signed for."""
    commit(state, 1, record)
    commit(state, 2, record)
    with pytest.raises(IntegrityError, match="round 2 of small/state holds the record of round 1"):
        newest_record(state, KEYS, three.charter)


class TestEditions:
    def test_a_round_is_read_under_the_edition_it_was_committed_under(
        self, three: ThreeSites, state: Store, record: RoundRecord
    ) -> None:
        commit(state, 1, record)
        second = next_edition(three.charter, max_rounds=50)
        third = next_edition(second, max_rounds=60)
        for charter in (second, third):
            assert newest_record(state, KEYS, charter) == record
            with pytest.raises(SignatureError, match="committed under another charter"):
                read_record(signed(record), charter)

    def test_an_edition_that_follows_is_foreign_to_the_one_before(
        self, three: ThreeSites, record: RoundRecord
    ) -> None:
        first = three.charter
        second = next_edition(first, max_rounds=50)
        with pytest.raises(SignatureError, match="committed under a foreign charter"):
            record_of(signed(replace(record, charter=second.digest)), KEYS, first)

    def test_a_round_of_no_edition_is_refused(self, three: ThreeSites, record: RoundRecord) -> None:
        for document in (
            signed(replace(record, charter="0" * 64)),
            b"{}",
            b"",
            b"[" * 60_000,
            b'{"body": 1}',
        ):
            with pytest.raises(SignatureError):
                record_of(document, KEYS, three.charter)


def test_a_round_is_finished_when_its_report_is_there(state: Store, record: RoundRecord) -> None:
    commit(state, 1, record)
    assert not is_finished(state, 1)
    state.create(round_key(1, "report.json"), b"{}")
    assert is_finished(state, 1)
    assert not is_finished(state, 2)


def test_the_checkpoint_is_the_one_that_was_committed(home: Path, state: Store, record: RoundRecord) -> None:
    key = checkpoint_key(record)
    assert key == f"rounds/00001/checkpoint-{record.model[:16]}.safetensors"
    state.create(key, MODEL)
    assert read_checkpoint(state, record) == MODEL
    (home / "small/state" / key).write_bytes(b"mode1")
    with pytest.raises(DigestMismatchError, match="checkpoint of round 1 is not the one it committed"):
        read_checkpoint(state, record)


class TestTheOneThatStands:
    """Under an edition that goes back, until a round under it is committed."""

    @pytest.fixture(autouse=True)
    def three_rounds(self, state: Store, record: RoundRecord) -> None:
        for number in (1, 2, 3):
            commit(state, number, replace(record, round_number=number, model=f"{number}" * 64))

    def standing(self, state: Store, charter: Charter) -> int:
        found = standing_record(state, KEYS, charter, newest_record(state, KEYS, charter))
        return found.round_number if found else 0

    def test_is_the_newest_where_nothing_is_taken_back(self, three: ThreeSites, state: Store) -> None:
        assert self.standing(state, three.charter) == 3
        assert self.standing(state, next_edition(three.charter, max_rounds=50)) == 3

    @pytest.mark.parametrize("number", [1, 2])
    def test_is_the_one_that_made_the_model_gone_back_to(
        self, three: ThreeSites, state: Store, number: int
    ) -> None:
        assert self.standing(state, next_edition(three.charter, restart=f"{number}" * 64)) == number

    def test_is_none_where_that_is_the_genesis(self, three: ThreeSites, state: Store) -> None:
        assert self.standing(state, next_edition(three.charter, restart=three.charter.genesis)) == 0

    def test_is_the_newest_again_after_a_round_under_the_edition(
        self, three: ThreeSites, state: Store, record: RoundRecord
    ) -> None:
        back = next_edition(three.charter, restart="1" * 64)
        commit(state, 4, replace(record, round_number=4, charter=back.digest, parent="1" * 64))
        assert self.standing(state, back) == 4
        assert [each.round_number for each in records(state, KEYS, back)] == [1, 2, 3, 4]

    def test_a_model_that_no_round_made_is_refused(self, three: ThreeSites, state: Store) -> None:
        with pytest.raises(IntegrityError, match="goes back to the model abababababab, which no round of"):
            self.standing(state, next_edition(three.charter, restart="ab" * 32))
