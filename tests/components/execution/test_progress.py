"""Lines of JSON about a step's begin and end, for collectors of logs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from components.artifacts.stores import Store
from components.errors import QuorumNotReachedError
from components.execution import central_step, progress
from components.execution.outcome import Outcome
from tests.components.execution.conftest import TICKET


@pytest.fixture
def as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSCLOUD_LOG", "json")
    monkeypatch.setenv("KFP_RUN_ID", "8d6c")
    monkeypatch.setenv("CROSSCLOUD_FEDERATION", "small")


def read(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines of JSON, without their times, which are of now."""
    found = []
    for line in capfd.readouterr().err.splitlines():
        if line.startswith("{"):
            told = json.loads(line)
            assert datetime.now(UTC) - datetime.fromisoformat(told.pop("time")) < timedelta(minutes=1)
            found.append(told)
    return found


COMMON = {"run": "8d6c", "federation": "small", "ticket": TICKET, "party": "", "step": "roster"}


@pytest.mark.usefixtures("as_json")
def test_a_step_tells_when_it_begins_and_when_it_is_done(
    exchange: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    del exchange
    made = Outcome(bytes_sent=7, metrics={"accuracy": 0.5}, manifest={"rows": 41})
    central_step.run(lambda: made, name="roster", exchange_uri="exchange", ticket=TICKET)
    begun, done = read(capfd)
    assert begun == {"severity": "INFO", "event": "begun", **COMMON}
    assert 0 <= done.pop("seconds") < 5
    assert done == {"severity": "INFO", "event": "done", **COMMON, "bytes_sent": 7}


@pytest.mark.usefixtures("as_json")
def test_a_step_that_fails_tells_both_readers(exchange: Store, capfd: pytest.CaptureFixture[str]) -> None:
    del exchange

    def work() -> Outcome:
        raise QuorumNotReachedError("2 of 3 sites,\nat least 3")

    with pytest.raises(SystemExit):
        central_step.run(work, name="roster", exchange_uri="exchange", ticket=TICKET)
    error = capfd.readouterr().err.splitlines()
    # A local run reads the line for people.
    assert "crosscloud-error: QuorumNotReachedError: 2 of 3 sites, at least 3" in error
    told = json.loads(error[-1])
    del told["time"]
    assert told == {
        "severity": "ERROR",
        "event": "failed",
        **COMMON,
        "error": "QuorumNotReachedError",
        "message": "2 of 3 sites, at least 3",
    }


@pytest.mark.usefixtures("as_json")
def test_a_reason_is_told_with_its_party(capfd: pytest.CaptureFixture[str]) -> None:
    progress.note("left_out", step="train", party="alpha", ticket=TICKET, reason="oom")
    (told,) = read(capfd)
    assert told == COMMON | {
        "severity": "WARNING",
        "event": "left_out",
        "party": "alpha",
        "step": "train",
        "reason": "oom",
    }


@pytest.mark.parametrize("setting", [None, "", "text", "JSON"])
def test_without_the_setting_there_is_no_json(
    setting: str | None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CROSSCLOUD_LOG", raising=False)
    if setting is not None:
        monkeypatch.setenv("CROSSCLOUD_LOG", setting)
    progress.note("begun", step="train")
    assert capfd.readouterr() == ("", "")
