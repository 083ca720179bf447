from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from components.artifacts.stores import Store, open_store
from components.errors import ObjectMissingError, SignatureError, UsageError
from components.execution.departures import read_departures
from components.execution.notes import read_notes
from components.execution.outcome import Outcome
from components.site_steps import steps
from components.site_steps.answer import answer_key, read_answer
from components.site_steps.job import answer
from components.site_steps.request import StepRequest, request_key
from components.site_steps.settings import SiteSettings
from components.site_steps.steps import STEPS
from tests.components.agreement.signed_form import KEYS, furnish
from tests.components.site_steps.paper import CRASHING, FIRST, NOTING, PAPER, REQUEST, found, issue

ALPHA = SiteSettings(site="alpha", store_uri="store", exchange_uri="exchange", keys_uri="keys")


@pytest.fixture(autouse=True)
def federation(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found()
    monkeypatch.setattr(steps, "STEPS", {**STEPS, "train": NOTING})


def ask(exchange: Store, request: StepRequest = REQUEST, *, by: str = "coordinator", named: str = "") -> str:
    named = named or request.digest
    exchange.create(request_key("alpha", named), request.signed(KEYS[by]))
    return named


def told(exchange: Store, named: str) -> Outcome | None:
    return read_answer(exchange, "alpha", named, PAPER)


class TestAnswering:
    def test_the_outcome_is_the_sites_and_in_the_exchange(self, exchange: Store) -> None:
        issue(exchange)
        named = ask(exchange)
        outcome = answer("train", named, ALPHA)
        assert outcome.reference == "alpha"
        assert told(exchange, named) == outcome

    def test_the_answer_is_in_the_sites_records_under_the_tickets_digest(self, exchange: Store) -> None:
        issue(exchange)
        named = ask(exchange)
        answer("train", named, ALPHA)
        (answered,) = [
            each for each in read_departures(open_store("store")) if each.key.startswith("outcomes/")
        ]
        assert answered.key == answer_key("alpha", named)
        assert (answered.state, answered.size) == ("sent", exchange.size(answered.key))
        assert (answered.occasion.step, answered.occasion.ticket) == ("train", FIRST.digest)

    def test_a_request_that_is_refused_is_noted_at_the_site(self, exchange: Store) -> None:
        issue(exchange)
        named = ask(exchange, by="alpha")
        reason = answer("train", named, ALPHA).reason
        assert reason.startswith("refused")
        (note,) = read_notes(open_store("store"))
        assert (note.step, note.ticket, note.error) == ("train", f"request {named}", "SignatureError")
        assert note.reason == reason
        (answered,) = read_departures(open_store("store"))
        assert (answered.key, answered.occasion.ticket) == (answer_key("alpha", named), "")

    def test_a_second_job_answers_nothing_new(self, exchange: Store) -> None:
        issue(exchange)
        named = ask(exchange)
        first = answer("train", named, ALPHA)
        second = answer("train", named, ALPHA)
        assert second.reason.startswith("unreachable"), "it cannot note again who worked"
        assert told(exchange, named) == first

    def test_a_crash_on_what_another_party_wrote_is_an_answer(
        self, exchange: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steps, "STEPS", {**STEPS, "train": CRASHING})
        issue(exchange)
        named = ask(exchange)
        outcome = answer("train", named, ALPHA)
        assert outcome.reason == "refused: the public context ended the process by signal 11"
        assert told(exchange, named) == outcome

    def test_what_a_request_cannot_change_is_where_the_sites_stores_are(self, exchange: Store) -> None:
        issue(exchange)
        named = ask(exchange, replace(REQUEST, arguments={"features": "f", "store_uri": "elsewhere"}))
        outcome = answer("train", named, ALPHA)
        assert outcome.reason.startswith("refused: train takes other arguments")
        assert open_store("elsewhere").keys() == []

    def test_what_lies_where_the_answer_belongs_must_be_the_sites(self, exchange: Store) -> None:
        issue(exchange)
        named = ask(exchange)
        exchange.create(answer_key("alpha", named), b"junk")
        with pytest.raises(SignatureError):
            answer("train", named, ALPHA)

    def test_a_request_that_is_not_there_is_no_answer(self, exchange: Store) -> None:
        with pytest.raises(ObjectMissingError):
            answer("train", "ab" * 32, ALPHA)
        assert exchange.keys("outcomes") == []


class TestRefusing:
    @pytest.mark.parametrize("signer", ["alpha", "beta", "key-holder", "delta"])
    def test_a_request_of_somebody_else(self, exchange: Store, signer: str) -> None:
        issue(exchange)
        named = ask(exchange, by=signer)
        assert answer("train", named, ALPHA).reason == (
            "refused: the signature of coordinator on a step request document does not verify"
        )
        assert not open_store("store").exists("worked")

    def test_a_request_under_another_name(self, exchange: Store) -> None:
        issue(exchange)
        named = ask(exchange, named="ab" * 32)
        assert "is not the one of this name" in answer("train", named, ALPHA).reason
        assert not open_store("store").exists("worked")

    def test_a_request_for_another_step_than_the_job(self, exchange: Store) -> None:
        """Admission pins what a Job may be by its step; a request must not make it another."""
        issue(exchange)
        named = ask(exchange)
        assert answer("seal", named, ALPHA).reason.endswith("is for train, the Job is for seal")
        assert not open_store("store").exists("worked")

    def test_a_ticket_of_another_place(self, exchange: Store) -> None:
        issue(exchange)
        named = ask(exchange, replace(REQUEST, ticket="elsewhere/ticket.json"))
        assert answer("train", named, ALPHA).reason.startswith("refused")
        assert not open_store("store").exists("worked")

    def test_a_charter_that_the_site_has_not_pinned(self, exchange: Store) -> None:
        issue(exchange)
        named = ask(exchange)
        furnish("alpha", charter=replace(PAPER, max_rounds=11))
        assert answer("train", named, ALPHA).reason.startswith("refused")
        assert not open_store("store").exists("worked")


def run_job(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "CROSSCLOUD_SITE": "alpha",
        "CROSSCLOUD_STORE_URI": "store",
        "CROSSCLOUD_EXCHANGE_URI": "exchange",
        "CROSSCLOUD_KEYS_URI": "keys",
    }
    return subprocess.run(
        [sys.executable, "-m", "components.site_steps.job", *arguments],
        env={**os.environ, **settings, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


class TestAsAProcess:
    def test_a_reason_is_an_answer_and_a_job_that_completed(self, exchange: Store) -> None:
        issue(exchange)
        named = ask(exchange, replace(REQUEST, step="seal", arguments={"roster": "exchange/none"}))
        ended = run_job("seal", named)
        assert ended.returncode == 0, ended.stderr
        outcome = told(exchange, named)
        assert outcome is not None
        assert outcome.reason.startswith("refused")

    @pytest.mark.parametrize(
        ("arguments", "environment", "line"),
        [
            (("train",), {}, "usage: components.site_steps.job ingest|augment|"),
            (("train", "../../x"), {}, "usage: components.site_steps.job"),
            (("sh", "ab" * 32), {}, "usage: components.site_steps.job"),
            (("train", "ab" * 32), {"CROSSCLOUD_STORE_URI": ""}, "must set CROSSCLOUD_STORE_URI"),
            (("train", "ab" * 32), {"CROSSCLOUD_SITE": "delta"}, "no private key at"),
        ],
    )
    def test_what_cannot_answer_fails_with_one_line(
        self, exchange: Store, arguments: tuple[str, ...], environment: dict[str, str], line: str
    ) -> None:
        ended = run_job(*arguments, **environment)
        assert (ended.returncode, ended.stdout) == (2, "")
        (said,) = ended.stderr.splitlines()
        assert said.startswith("crosscloud-error: UsageError: ")
        assert line in said
        assert exchange.keys("outcomes") == []


def test_settings_are_the_environments() -> None:
    environment = {
        "CROSSCLOUD_SITE": "a",
        "CROSSCLOUD_STORE_URI": "b",
        "CROSSCLOUD_EXCHANGE_URI": "c",
        "CROSSCLOUD_KEYS_URI": "d",
    }
    assert SiteSettings.of_environment(environment) == SiteSettings(
        site="a", store_uri="b", exchange_uri="c", keys_uri="d"
    )
    with pytest.raises(UsageError, match="CROSSCLOUD_SITE, CROSSCLOUD_KEYS_URI"):
        SiteSettings.of_environment({**environment, "CROSSCLOUD_SITE": "", "CROSSCLOUD_KEYS_URI": ""})


def test_an_answer_holds_nothing_but_what_an_outcome_tells(exchange: Store) -> None:
    issue(exchange)
    named = ask(exchange)
    answer("train", named, ALPHA)
    body = json.loads(exchange.read(answer_key("alpha", named)))["body"]
    assert body == {
        "request": named,
        "reference": "alpha",
        "reason": "",
        "manifest": {"uri": "store/features"},
        "metrics": {"loss": 0.5},
        "bytes_sent": 12,
        "bytes_read": 0,
        "findings": [],
    }
