"""Records of what has left: by occasion, in the order of time, and never silently altered."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts.stores import Store, open_store
from components.errors import IntegrityError
from components.execution.departures import Departures, Occasion, read_departures
from components.execution.outcome import Outcome

TICKET = "s3://bucket/exchange/rounds/00003-2/ticket.json"


@pytest.fixture
def own(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "own"))


def departures(own: Store, reference: str = TICKET, ticket: str = "") -> Departures:
    return Departures(store=own, occasion=Occasion.referred("train", reference, ticket=ticket))


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        (TICKET, (3, 2)),
        ("rounds/00012-1/ticket.json", (12, 1)),
        ("small/exchange/rounds/00012-1/roster.json", (0, 0)),
        ("rounds/12-1/ticket.json", (0, 0)),
        ("elsewhere", (0, 0)),
        ("", (0, 0)),
    ],
)
def test_round_and_attempt_are_read_off_a_reference(reference: str, place: tuple[int, int]) -> None:
    occasion = Occasion.referred("train", reference)
    assert (occasion.round_number, occasion.attempt) == place


def test_an_outcome_is_told_by_names_size_and_digest(own: Store) -> None:
    outcome = Outcome(
        reference="store/features",
        manifest={"uri": "store/features", "digest": "secret-digest"},
        metrics={"accuracy": 0.1234567},
        findings=("a class is gone",),
    )
    departures(own, ticket="ab" * 32).tell(outcome)
    (found,) = read_departures(own)
    assert (found.state, found.told, found.reason, found.occasion.ticket) == (
        "told",
        "store/features",
        "",
        "ab" * 32,
    )
    assert found.fields == ("findings", "manifest digest", "manifest uri", "metric accuracy")
    assert found.size == len(outcome.to_json())
    (key,) = own.keys("left")
    assert key.startswith(f"left/000000003-000002-{'ab' * 32}/outcome-train-")
    assert b"secret-digest" not in own.read(key)
    assert b"0.123" not in own.read(key)


def test_an_outcome_that_is_told_again_is_one_departure_and_another_one_is_not(own: Store) -> None:
    for reason in ("oom", "oom", "timeout"):
        departures(own).tell(Outcome(reason=reason))
    departures(own, "elsewhere").tell(Outcome(reason="oom"))
    assert sorted(each.reason for each in read_departures(own)) == ["oom", "oom", "timeout"]


def test_records_of_one_round_are_read_alone(own: Store) -> None:
    for number in (1, 2, 12):
        departures(own, f"x/rounds/{number:05d}-1/ticket.json").begin("key")
    assert [each.occasion.round_number for each in read_departures(own)] == [1, 2, 12]
    assert [each.occasion.round_number for each in read_departures(own, round_number=2)] == [2]
    assert read_departures(own, round_number=3) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"time": 1}', b"\xff", b"[" * 20_000])
def test_an_altered_record_is_told(own: Store, content: bytes) -> None:
    own.create("left/000000001-000001-untold/key.begun.json", content)
    with pytest.raises(
        IntegrityError, match=r"the site's record left/000000001.*key\.begun\.json was altered"
    ):
        read_departures(own)
