from __future__ import annotations

import pytest

from components.artifacts.stores import Store
from components.errors import (
    CrosscloudError,
    FederationFileError,
    IntegrityError,
    QuorumNotReachedError,
    RefusedError,
    RoundAlreadyCommittedError,
    StoreError,
    UsageError,
)
from components.execution import central_step
from components.execution.journal import Entry, entries
from components.execution.outcome import Outcome
from tests.components.execution.conftest import TICKET

FOLDER = "rounds/00001-1"


def failing(error: BaseException) -> None:
    def work() -> Outcome:
        raise error

    central_step.run(work, name="roster", exchange_uri="exchange", ticket=TICKET)


def test_hands_on_the_outcome_and_journals_it(exchange: Store, capfd: pytest.CaptureFixture[str]) -> None:
    made = Outcome(reference="exchange/x", metrics={"sites": 2.0}, bytes_sent=7)
    assert central_step.run(lambda: made, name="roster", exchange_uri="exchange", ticket=TICKET) is made
    (entry,) = entries(exchange, FOLDER)
    assert entry == Entry(step="roster", site="", seconds=entry.seconds, bytes=7)
    assert 0 <= entry.seconds < 5
    assert capfd.readouterr() == ("", "")


def test_without_a_ticket_the_outcome_says_whose_journal_it_is(exchange: Store) -> None:
    central_step.run(lambda: Outcome(reference=TICKET), name="open_round", exchange_uri="exchange")
    assert [entry.step for entry in entries(exchange, FOLDER)] == ["open_round"]


def test_a_second_run_does_not_replace_the_first_ones_figures(exchange: Store) -> None:
    for count in (7, 8):
        central_step.run(
            lambda count=count: Outcome(bytes_sent=count),  # type: ignore[misc]
            name="roster",
            exchange_uri="exchange",
            ticket=TICKET,
        )
    assert [entry.bytes for entry in entries(exchange, FOLDER)] == [7]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CrosscloudError("x"), 1),
        (IntegrityError("x"), 1),
        (QuorumNotReachedError("x"), 1),
        (RoundAlreadyCommittedError("x"), 1),
        (RefusedError("x"), 1),
        (UsageError("x"), 2),
        (StoreError("x"), 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_our_own_is_one_line_and_its_exit_code(
    exchange: Store, capfd: pytest.CaptureFixture[str], error: CrosscloudError, code: int
) -> None:
    with pytest.raises(SystemExit) as end:
        failing(error)
    assert end.value.code == code
    assert capfd.readouterr() == ("", f"crosscloud-error: {type(error).__name__}: x\n")
    assert entries(exchange, FOLDER) == []


def test_many_lines_are_told_as_one(exchange: Store, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        failing(FederationFileError("f.yaml", ["first", "second\tof\r\nall"]))
    assert capfd.readouterr().err == (
        "crosscloud-error: FederationFileError: f.yaml: first f.yaml: second of all\n"
    )


def test_debug_shows_the_trace_after_the_line(
    exchange: Store, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCLOUD_DEBUG", "1")
    error = UsageError("x")
    with pytest.raises(UsageError) as raised:
        failing(error)
    assert raised.value is error
    assert capfd.readouterr().err == "crosscloud-error: UsageError: x\n"


def test_an_unexpected_error_is_not_hidden(exchange: Store, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())
    assert capfd.readouterr().err == ""
    assert entries(exchange, FOLDER) == []
