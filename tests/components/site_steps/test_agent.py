from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from components.agreement.charter import Charter
from components.artifacts.file_store import FileStore
from components.artifacts.stores import Store, create_or_read, open_store
from components.errors import StoreError, UsageError
from components.execution.jobs.ends import JobEnd
from components.execution.jobs.order import Accelerator, Cluster, JobOrder
from components.execution.notes import read_notes
from components.execution.outcome import Outcome
from components.site_steps import agent as agents
from components.site_steps.agent import AT_ONCE, MOST_TRIES, Agent
from components.site_steps.answer import answer_document, answer_key, notice_key, read_notice
from components.site_steps.request import StepRequest, request_key
from components.site_steps.settings import SiteSettings
from tests.components.agreement.signed_form import KEYS
from tests.components.site_steps.paper import REQUEST, found

ALPHA = SiteSettings(site="alpha", store_uri="", exchange_uri="exchange", keys_uri="keys")
CLUSTER = Cluster(namespace="crosscloud")


@pytest.fixture(autouse=True)
def federation(home: Path) -> None:
    found()


def ask(exchange: Store, request: StepRequest = REQUEST, *, by: str = "coordinator") -> str:
    exchange.create(request_key("alpha", request.digest), request.signed(KEYS[by]))
    return request.digest


class Jobs:
    """How Jobs end, in the place of a cluster."""

    def __init__(self, exchange: Store, reason: str = "", *, answers: bool = True) -> None:
        self.exchange, self.reason, self.answers = exchange, reason, answers
        self.done: list[tuple[JobOrder, Cluster]] = []

    def __call__(self, order: JobOrder, cluster: Cluster) -> JobEnd:
        self.done.append((order, cluster))
        if self.reason == "raise":
            raise UsageError("no kubeconfig")
        if self.answers and not self.reason:
            document = answer_document(
                Outcome(reference="r"), site="alpha", named=order.request, key=KEYS["alpha"]
            )
            self.exchange.create(answer_key("alpha", order.request), document)
        return JobEnd(reason=self.reason)


def poll(agent: Agent) -> list[str]:
    with ThreadPoolExecutor(2) as pool:
        return agent.poll(pool)


def agent(jobs: Jobs) -> Agent:
    return Agent(site=ALPHA, cluster=CLUSTER, has_done=jobs)


def test_what_is_asked_is_done_once(exchange: Store) -> None:
    jobs = Jobs(exchange)
    at_work = agent(jobs)
    named = ask(exchange)
    assert poll(at_work) == [named]
    assert poll(at_work) == []
    assert jobs.done == [(JobOrder(step="train", request=named, deadline_s=20), CLUSTER)]
    assert exchange.keys("notices") == []


def test_an_agent_that_starts_again_leaves_what_was_answered_alone(exchange: Store) -> None:
    jobs = Jobs(exchange)
    named = ask(exchange)
    poll(agent(jobs))
    unanswered = ask(exchange, replace(REQUEST, attempt=2))
    assert poll(agent(jobs)) == [unanswered]
    assert [order.request for order, _ in jobs.done] == [named, unanswered]


REASONS = [
    "oom",
    "evicted: the Job was deleted",
    "denied: policy crosscloud-jobs",
    "failed: template spec.template.spec.containers[0].command",
    "unreachable: API server",
    "timeout: did not start",
]


@pytest.mark.parametrize("reason", REASONS)
def test_a_job_that_ends_without_an_answer_leaves_a_notice(exchange: Store, reason: str) -> None:
    named = ask(exchange)
    poll(agent(Jobs(exchange, reason)))
    assert read_notice(exchange, "alpha", named) == Outcome(reason=reason)


@pytest.mark.parametrize(("reason", "told"), [("", "failed: no answer"), ("raise", "failed")])
def test_a_job_that_says_nothing_failed(exchange: Store, reason: str, told: str) -> None:
    named = ask(exchange)
    poll(agent(Jobs(exchange, reason, answers=False)))
    assert read_notice(exchange, "alpha", named) == Outcome(reason=told)


@pytest.mark.parametrize("signer", ["alpha", "beta", "key-holder"])
def test_what_the_coordinator_has_not_signed_is_passed_over(exchange: Store, signer: str) -> None:
    jobs = Jobs(exchange)
    at_work = agent(jobs)
    named = ask(exchange, by=signer)
    for _ in range(MOST_TRIES + 1):
        assert poll(at_work) == []
    assert jobs.done == []
    assert not exchange.exists(notice_key("alpha", named))


def test_what_is_passed_over_is_noted_once_where_the_agent_is_given_the_sites_store(exchange: Store) -> None:
    at_work = replace(agent(Jobs(exchange)), site=replace(ALPHA, store_uri="store"))
    named = ask(exchange, by="beta")
    for _ in range(2 * MOST_TRIES):
        assert poll(at_work) == []
    (note,) = read_notes(open_store("store"))
    assert (note.step, note.ticket, note.error, note.reason) == (
        "agent", f"request {named}", "SignatureError", ""
    )  # fmt: skip


def test_a_policy_that_is_being_changed_or_a_store_that_is_away_costs_no_request(
    exchange: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs(exchange)
    at_work = agent(jobs)
    named = ask(exchange)
    for fault in (StoreError("away"), UsageError("policy.yaml is not YAML")):

        def fail(site: SiteSettings, fault: Exception = fault) -> list[Charter]:
            raise fault

        with monkeypatch.context() as broken:
            broken.setattr(SiteSettings, "charters", fail)
            for _ in range(MOST_TRIES + 1):
                with pytest.raises(type(fault)):
                    poll(at_work)
    assert poll(at_work) == [named]


def test_a_notice_is_written_with_no_right_above_the_sites_own(
    exchange: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an identity may write below notices/SITE alone, a store's own probe must lie there too."""
    opened: list[str] = []

    def create_there(store: Store, key: str, content: bytes) -> bytes:
        opened.append(f"{store.uri}/{key}")
        return create_or_read(store, key, content)

    monkeypatch.setattr(agents, "create_or_read", create_there)
    named = ask(exchange)
    poll(agent(Jobs(exchange, "oom")))
    assert opened == [f"exchange/notices/alpha/{named}.json"]
    assert exchange.exists(notice_key("alpha", named))
    assert open_store("exchange/notices/alpha").exists(f"{named}.json")


def test_an_exchange_that_takes_no_notice_does_not_hold_the_agent_up(
    exchange: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "NOTICE_S", 0.1)
    monkeypatch.setattr(agents, "POLL_S", 0.02)

    def refuse(store: Store, key: str, content: bytes) -> bytes:
        raise StoreError("HTTP 403")

    monkeypatch.setattr(agents, "create_or_read", refuse)
    jobs = Jobs(exchange, "oom")
    at_work = agent(jobs)
    for attempt in range(1, 2 * AT_ONCE):
        ask(exchange, replace(REQUEST, attempt=attempt))
    with ThreadPoolExecutor(2) as pool:
        at_work.poll(pool)
    assert len(jobs.done) == 2 * AT_ONCE - 1


def test_a_thousand_old_requests_are_looked_up_by_three_listings(
    exchange: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for attempt in range(1, 40):
        named = ask(exchange, replace(REQUEST, attempt=attempt))
        exchange.create(answer_key("alpha", named), b"{}")
    monkeypatch.setattr(FileStore, "exists", lambda store, key: pytest.fail("one by one"))
    assert poll(agent(Jobs(exchange))) == []


def test_requests_of_other_sites_and_of_no_name_are_not_looked_at(exchange: Store) -> None:
    jobs = Jobs(exchange)
    other = replace(REQUEST, site="beta")
    exchange.create(request_key("beta", other.digest), other.signed(KEYS["coordinator"]))
    exchange.create("requests/alpha/notes.json", b"{}")
    assert poll(agent(jobs)) == []
    assert jobs.done == []


def test_a_computing_step_has_the_accelerator_that_was_asked_for(exchange: Store) -> None:
    jobs = Jobs(exchange)
    ask(exchange, replace(REQUEST, accelerator="nvidia.com/gpu", accelerators=2))
    poll(agent(jobs))
    assert jobs.done[0][0].accelerator == Accelerator(type="nvidia.com/gpu", count=2)


def test_a_request_for_what_no_job_may_be_is_told_to_have_failed(exchange: Store) -> None:
    jobs = Jobs(exchange)
    named = ask(exchange, replace(REQUEST, accelerator="hostPath", accelerators=1))
    poll(agent(jobs))
    assert jobs.done == []
    assert read_notice(exchange, "alpha", named) == Outcome(reason="failed: no Job may be so")
