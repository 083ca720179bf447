from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.stores import Store
from components.execution.outcome import Outcome
from components.site_steps import dispatch as dispatching
from components.site_steps.answer import answer_document, answer_key, notice, notice_key
from components.site_steps.job_terms import JobTerms
from components.site_steps.request import read_request
from components.site_steps.running import run_at_site
from tests.components.agreement.signed_form import KEYS, furnish
from tests.components.site_steps.paper import PAPER, REQUEST, found, issue
from tests.jobs_api.controller import Controller
from tests.jobs_api.process_runner import ProcessRunner
from tests.jobs_api.server import JobsServer
from tests.jobs_api.templates import template

NAMESPACE = "crosscloud"
BY_JOB = JobTerms(door="dispatcher", namespace=NAMESPACE).to_text()
BY_AGENT = JobTerms(door="agent", namespace=NAMESPACE).to_text()


@pytest.fixture(autouse=True)
def federation(home: Path) -> None:
    found()
    furnish("coordinator")


@pytest.fixture
def cluster(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsServer]:
    """Alpha's own, which this process may create Jobs in."""
    monkeypatch.setenv("CROSSCLOUD_CLUSTERS", str(tmp_path / "clusters"))
    settings = {
        "CROSSCLOUD_STORE_URI": "store",
        "CROSSCLOUD_EXCHANGE_URI": "exchange",
        "CROSSCLOUD_KEYS_URI": "keys",
    }
    with JobsServer() as server:
        server.add_namespace(NAMESPACE, template("alpha", env=settings))
        server.controller.runner = ProcessRunner(
            folder=tmp_path / "logs",
            mounts={"/work": home},
            environment={"HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        )
        server.write_kubeconfig(tmp_path / "clusters/alpha/kubeconfig")
        yield server


def asked(*, job: str = BY_JOB, ticket: str, step: str = "train", **arguments: Any) -> Outcome:
    return run_at_site(
        step,
        arguments or {"features": "store/features"},
        site="alpha",
        store_uri="store",
        exchange_uri="exchange",
        keys_uri="keys",
        ticket=ticket,
        deadline_s=20,
        job=job,
    )


def requests(exchange: Store) -> list[str]:
    return [key.rpartition("/")[2].removesuffix(".json") for key in exchange.keys("requests/alpha")]


class Answering:
    """A site's Jobs that answer what they are told to, one after another."""

    def __init__(self, exchange: Store, *outcomes: Outcome | int) -> None:
        self.exchange, self.left = exchange, list(outcomes)

    def __call__(self, controller: Controller, job: dict[str, Any]) -> None:
        named = job["spec"]["template"]["spec"]["containers"][0]["args"][1]
        controller.pend(job)
        controller.run(job)
        told = self.left.pop(0)
        if isinstance(told, Outcome):
            document = answer_document(told, site="alpha", named=named, key=KEYS["alpha"])
            self.exchange.create(answer_key("alpha", named), document)
        controller.end(job, told if isinstance(told, int) else 0)


class TestByJob:
    def test_the_site_answers_what_the_coordinator_has_signed(
        self, exchange: Store, cluster: JobsServer
    ) -> None:
        """A real Job: it verifies, and refuses for a reason of its own."""
        outcome = asked(ticket=issue(exchange), step="seal", roster="exchange/none")
        assert outcome.reason.startswith("refused: ")
        (named,) = requests(exchange)
        request = read_request(exchange, "alpha", named, PAPER)
        assert (request.step, request.arguments) == ("seal", {"roster": "exchange/none"})
        (job,) = cluster.jobs(NAMESPACE)
        assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["seal", named]

    def test_what_was_answered_is_not_asked_again(self, exchange: Store, cluster: JobsServer) -> None:
        answer = Outcome(reference="store/model", manifest={"uri": "store/model"}, bytes_sent=3)
        cluster.controller.runner = Answering(exchange, answer)
        ticket = issue(exchange)
        assert asked(ticket=ticket) == answer
        assert asked(ticket=ticket) == answer
        assert len(cluster.jobs(NAMESPACE)) == 1

    def test_a_reason_is_asked_for_anew(self, exchange: Store, cluster: JobsServer) -> None:
        """As a step is that is run again in a pod of its own."""
        answers = [Outcome(reason="unreachable: the warehouse"), Outcome(reference="store/model")]
        cluster.controller.runner = Answering(exchange, *answers)
        ticket = issue(exchange)
        assert [asked(ticket=ticket), asked(ticket=ticket)] == answers
        attempts = [read_request(exchange, "alpha", named, PAPER).attempt for named in requests(exchange)]
        assert sorted(attempts) == [1, 2]

    def test_a_job_that_died_is_the_same_request_when_asked_again(
        self, exchange: Store, cluster: JobsServer
    ) -> None:
        cluster.controller.runner = Answering(exchange, 137, Outcome(reference="store/model"))
        ticket = issue(exchange)
        assert asked(ticket=ticket).reason == "failed: exit code 137"
        assert asked(ticket=ticket).reference == "store/model"
        assert len(requests(exchange)) == 1

    def test_a_job_that_completes_and_says_nothing_failed(self, exchange: Store, cluster: JobsServer) -> None:
        cluster.controller.runner = Answering(exchange, 0)
        assert asked(ticket=issue(exchange)).reason == "failed: the Job of train ended without an answer"

    def test_an_answer_of_somebody_else_is_refused_and_the_next_run_asks_anew(
        self, exchange: Store, cluster: JobsServer
    ) -> None:
        ticket = issue(exchange)

        def forging(controller: Controller, job: dict[str, Any]) -> None:
            named = job["spec"]["template"]["spec"]["containers"][0]["args"][1]
            forged = answer_document(Outcome(reference="x"), site="alpha", named=named, key=KEYS["beta"])
            exchange.create(answer_key("alpha", named), forged)
            controller.end(job)

        cluster.controller.runner = forging
        assert asked(ticket=ticket).reason == (
            "refused: the signature of alpha on a step outcome document does not verify"
        )
        cluster.controller.runner = Answering(exchange, Outcome(reference="store/model"))
        assert asked(ticket=ticket).reference == "store/model"
        assert len(requests(exchange)) == 2

    def test_a_notice_counts_for_nothing_where_the_dispatcher_sees_the_job(
        self, exchange: Store, cluster: JobsServer
    ) -> None:
        ticket = issue(exchange)
        named = replace(REQUEST, ticket=ticket).digest
        exchange.create(notice_key("alpha", named), notice("oom"))
        cluster.controller.runner = Answering(exchange, Outcome(reference="store/model"))
        assert asked(ticket=ticket).reference == "store/model"
        assert requests(exchange) == [named]

    def test_a_dispatcher_that_is_killed_leaves_its_job_to_the_next(
        self, exchange: Store, cluster: JobsServer
    ) -> None:
        """By a process that is killed with SIGKILL while the Job runs."""
        go_on = threading.Event()

        def slowly(controller: Controller, job: dict[str, Any]) -> None:
            controller.pend(job)
            controller.run(job)
            go_on.wait(60)
            Answering(exchange, Outcome(reference="store/model"))(controller, job)

        cluster.controller.runner = slowly
        ticket = issue(exchange)
        code = (
            "from components.site_steps.running import run_at_site\n"
            "run_at_site('train', {'features': 'store/features'}, site='alpha', store_uri='store',"
            " exchange_uri='exchange', keys_uri='keys', deadline_s=20,"
            f" ticket={ticket!r}, job={BY_JOB!r})"
        )
        first = subprocess.Popen([sys.executable, "-c", code])
        while not cluster.jobs(NAMESPACE):
            assert first.poll() is None
            time.sleep(0.05)
        first.kill()
        first.wait()
        go_on.set()
        assert asked(ticket=ticket).reference == "store/model"
        assert len(cluster.jobs(NAMESPACE)) == len(requests(exchange)) == 1


class TestWithoutACluster:
    def test_no_kubeconfig_is_one_line_for_the_coordinator(
        self, exchange: Store, cluster: JobsServer, tmp_path: Path
    ) -> None:
        (tmp_path / "clusters/alpha/kubeconfig").unlink()
        reason = asked(ticket=issue(exchange)).reason
        assert reason.startswith("failed: no kubeconfig for alpha at ")

    def test_a_token_that_may_not_create_jobs_is_denied(self, exchange: Store, cluster: JobsServer) -> None:
        for rights in cluster.access.tokens.values():
            rights -= {right for right in rights if right[0] == "create"}
        assert asked(ticket=issue(exchange)).reason == "denied: no right to create jobs"

    @pytest.mark.parametrize("terms", ["{}", "agent", '{"door":"window","namespace":"x"}'])
    def test_terms_that_no_compiler_wrote(self, exchange: Store, terms: str) -> None:
        assert asked(ticket=issue(exchange), job=terms).reason.startswith("failed: job terms must ")

    def test_a_forged_ticket_asks_nobody(self, exchange: Store, cluster: JobsServer) -> None:
        assert asked(ticket=issue(exchange, by="beta")).reason.startswith("refused: the signature of ")
        assert requests(exchange) == []
        assert cluster.jobs(NAMESPACE) == []

    def test_a_site_left_out_is_not_asked(self, exchange: Store, cluster: JobsServer) -> None:
        told = run_at_site(
            "train",
            {},
            site="alpha",
            store_uri="store",
            exchange_uri="exchange",
            keys_uri="keys",
            ticket=issue(exchange),
            deadline_s=20,
            reason="oom",
            job=BY_JOB,
        )
        assert told == Outcome(reason="oom")
        assert requests(exchange) == []


class TestByAgent:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dispatching, "POLL_S", 0.05)

    def answered(self, exchange: Store, content: bytes, key: Any) -> threading.Thread:
        """Somebody who puts this where the first request asks for it."""

        def work() -> None:
            while not requests(exchange):
                time.sleep(0.02)
            exchange.create(key("alpha", requests(exchange)[0]), content)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def test_the_sites_answer_is_waited_for(self, exchange: Store) -> None:
        ticket = issue(exchange)
        told = Outcome(reference="store/model")
        named = replace(REQUEST, ticket=ticket).digest
        document = answer_document(told, site="alpha", named=named, key=KEYS["alpha"])
        at_site = self.answered(exchange, document, answer_key)
        assert asked(ticket=ticket, job=BY_AGENT) == told
        at_site.join()

    def test_an_agents_notice_is_a_reason(self, exchange: Store) -> None:
        at_site = self.answered(exchange, notice("denied: quota"), notice_key)
        assert asked(ticket=issue(exchange), job=BY_AGENT) == Outcome(reason="denied: quota")
        at_site.join()

    def test_an_agent_that_is_not_there_leaves_the_site_out(
        self, exchange: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dispatching, "START_GRACE_S", -20)
        monkeypatch.setattr(dispatching, "AGENT_GRACE_S", 0.3)
        assert asked(ticket=issue(exchange), job=BY_AGENT) == Outcome(
            reason="unreachable: the agent of alpha did not answer"
        )


def test_terms_are_read_as_they_were_written() -> None:
    terms = JobTerms(door="agent", namespace="research", accelerator="nvidia.com/gpu", accelerators=2)
    assert JobTerms.from_text(terms.to_text()) == terms
    assert '"' in terms.to_text(), "a constant of the spec, never a task's output"
