"""`crosscloud status`: what the state, the ledgers and a Kubeflow endpoint say."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import SmallFederation
from tests.pipelines.command_line import Say
from tests.pipelines.kubeflow.conftest import (
    Submitter,
    compiled,
    compiled_once,
    server,
    submitter,
    usual_environment,
)
from tests.pipelines.noised import ours
from tests.pipelines.round_in_process import RoundInProcess

__all__ = ["compiled", "compiled_once", "server", "submitter", "usual_environment"]
NO_ENDPOINT = "no endpoint was asked: name one with --endpoint or in KF_PIPELINES_ENDPOINT"
RoundUnder = Callable[[str], SmallFederation]


def test_before_the_first_round_it_says_so(
    submitter: Submitter, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    assert say("status", submitter.path).lines == [
        "small: A small federation",
        "0 committed, next is round 1",
        NO_ENDPOINT,
    ]


def test_it_tells_of_rounds_and_participants(
    round_under: RoundUnder, say: Say, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = round_under("none")
    capsys.readouterr()
    monkeypatch.setenv("CROSSCLOUD_HOME", str(made.home))
    said = say("status", made.path).lines
    assert said[0] == "small: A small federation"
    assert said[1].split() == ["round", "committed", "sites", "accuracy"]
    number, _, _, *sites, accuracy, unit = said[2].split()
    assert (number, sites, unit) == ("1", ["3", "of", "3"], "%")
    assert 0 <= float(accuracy) <= 100
    assert said[3:] == ["1 committed, next is round 2", NO_ENDPOINT]
    told = json.loads("\n".join(say("status", made.path, "--json").lines))
    (only,) = told["rounds"]
    assert only["members"] == ["alpha", "beta", "gamma"]
    assert only["accuracy"] == pytest.approx(float(accuracy) / 100, abs=0.0005)
    assert (told["committed"], told["next_round"], told["runs"], told["in_order"]) == (1, 2, None, None)


def test_it_tells_what_is_spent_and_left(
    small_federation: Callable[..., SmallFederation],
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = small_federation(30, **ours(rounds=2))
    monkeypatch.chdir(made.path.parent)
    RoundInProcess(made).finish()
    capsys.readouterr()
    told = json.loads("\n".join(say("status", made.path, "--json").lines))
    (only,) = told["rounds"]
    assert 0 < only["epsilon_spent"] < 8
    assert only["epsilon_left"] == pytest.approx(8 - only["epsilon_spent"])
    assert [each["site"] for each in told["budgets"]] == ["alpha", "beta", "gamma"]
    assert {each["rounds_left"] for each in told["budgets"]} == {1}
    lines = say("status", made.path).lines
    assert lines[1].split()[-4:] == ["ε", "spent", "ε", "left"]
    assert f"{only['epsilon_spent']:.2f}" in lines[2]


def test_a_schedule_in_order_exits_with_0(submitter: Submitter, say: Say) -> None:
    say("schedule", submitter.path)
    said = say("status", submitter.path).lines
    assert said[2] == f"endpoint  {submitter.server.url}"
    assert said[3].startswith("schedule  0 0 3 * * *  enabled, next 20")
    assert said[4:] == ["in order"]
    told = json.loads("\n".join(say("status", submitter.path, "--json").lines))
    (made,) = submitter.recurring
    assert told["schedule"]["recurring_run_id"] == made["recurring_run_id"]
    assert (told["in_order"], told["faults"], told["runs"]) == (True, [], [])


def test_a_scheduled_run_that_failed_exits_with_1(submitter: Submitter, say: Say) -> None:
    say("schedule", submitter.path)
    (made,) = submitter.recurring
    now = datetime.now(UTC)
    run = submitter.server.objects.fire(made["recurring_run_id"], now, state="FAILED")
    page = f"{submitter.server.url}/#/runs/details/{run['run_id']}"
    said = say("status", submitter.path)
    assert (said.code, said.err) == (1, "")
    *_, shown, fault = said.out.splitlines()
    assert shown == f"run       {now:%Y-%m-%d %H:%M} UTC  FAILED  scheduled  {page}"
    assert fault.startswith("fault     the newest scheduled run that has ended, due ")
    as_json = say("status", submitter.path, "--json")
    assert as_json.code == 1
    told = json.loads(as_json.out)
    assert told["in_order"] is False
    assert [each["state"] for each in told["runs"]] == ["FAILED"]
    assert told["runs"][0]["page"] == page


def test_a_schedule_that_is_overdue_exits_with_1(submitter: Submitter, say: Say) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=3)
    submitter.server.objects.clock = lambda: long_ago
    say("schedule", submitter.path)
    said = say("status", submitter.path)
    assert said.code == 1
    assert said.out.splitlines()[-1].startswith("fault     the schedule is overdue since ")


def test_a_suspended_schedule_exits_with_0(submitter: Submitter, say: Say) -> None:
    say("schedule", submitter.path)
    say("schedule", submitter.path, "--suspend")
    assert say("status", submitter.path).lines[3:] == [
        "schedule  0 0 3 * * *  suspended",
        "note      the schedule is suspended",
        "in order",
    ]


def test_an_endpoint_that_is_down_exits_with_2_after_what_is_known(submitter: Submitter, say: Say) -> None:
    submitter.server.stop()
    said = say("status", submitter.path)
    assert said.code == 2
    assert said.out.splitlines()[-1] == "0 committed, next is round 1"
    (line,) = said.complaints
    assert line.startswith(f"{submitter.server.url} cannot be reached (connection refused)")
