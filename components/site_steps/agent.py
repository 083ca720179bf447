"""A site's agent: `python3 -m components.site_steps.agent`, a deployment in the site's own cluster.

It looks into the exchange for requests that the coordinator has signed for this site, has each done as a
Job in its own namespace, and leaves a notice where a Job ended without an answer. So nobody outside the site
holds a right to create anything in its cluster, and the cluster is reached from nowhere. An agent that starts
again adopts the Jobs of the one before.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from components.artifacts.stores import Store, create_or_read, open_store
from components.errors import CrosscloudError, SignatureError, StoreError, UsageError
from components.execution import progress
from components.execution.central_step import ERROR_PREFIX
from components.execution.jobs.dispatch import run_job
from components.execution.jobs.ends import JobEnd
from components.execution.jobs.order import Cluster, JobOrder
from components.execution.notes import keep_note
from components.site_steps.answer import answer_key, notice
from components.site_steps.request import DIGEST, order_of
from components.site_steps.settings import SiteSettings, agreed_request

POLL_S = 2.0
AT_ONCE = 8
"""Jobs that are watched at the same time; the steps of one round follow each other."""
NAMESPACE = "CROSSCLOUD_NAMESPACE"
MOST_TRIES = 30
"""Polls, a minute, after which what the coordinator has not signed is passed over: a policy may change."""
NOTICE_S = 600.0
"""Seconds for which the exchange is waited for to take a notice."""


@dataclass(kw_only=True)
class Agent:
    """Sees to the requests of one site.

    Attributes:
        site: its settings.
        cluster: where its Jobs are made.
        has_done: has an order done as a Job and tells how it ended.
    """

    site: SiteSettings
    cluster: Cluster
    has_done: Callable[[JobOrder, Cluster], JobEnd] = run_job
    _seen: set[str] = field(default_factory=set)
    _tries: dict[str, int] = field(default_factory=dict)

    def poll(self, pool: ThreadPoolExecutor) -> list[str]:
        """Has what was asked since the last poll done, and tells by which names.

        Raises:
            CrosscloudError: the exchange, the charters or the policy cannot be read.
        """
        waiting = self._waiting(open_store(self.site.exchange_uri))
        charters = self.site.charters() if waiting else []
        begun: list[str] = []
        for named in waiting:
            try:
                order = order_of(agreed_request(named, self.site, charters))
            except SignatureError as error:
                self._pass_over(named, error)
                continue
            except UsageError as error:
                progress.tell(f"request {named[:12]}: {error}")
                self._seen.add(named)
                pool.submit(self._leave_notice, named, "failed: no Job may be so")
                continue
            self._seen.add(named)
            pool.submit(self._see_to, order)
            begun.append(named)
        return begun

    def _waiting(self, exchange: Store) -> list[str]:
        """Names of requests that were neither seen to nor answered."""
        new = self._names(exchange, "requests") - self._seen
        if new:
            done = self._names(exchange, "outcomes") | self._names(exchange, "notices")
            self._seen |= new & done
        return sorted(new - self._seen)

    def _names(self, exchange: Store, folder: str) -> set[str]:
        prefix = f"{folder}/{self.site.site}"
        names = (key.removeprefix(f"{prefix}/").removesuffix(".json") for key in exchange.keys(prefix))
        return {named for named in names if DIGEST.fullmatch(named)}

    def _pass_over(self, named: str, error: SignatureError) -> None:
        """No notice is left for what the coordinator has not signed: it did not ask."""
        self._tries[named] = self._tries.get(named, 0) + 1
        if self._tries[named] >= MOST_TRIES:
            self._seen.add(named)
            self._tries.pop(named)
            progress.tell(f"request {named[:12]} is passed over: {error}")
            if self.site.store_uri:
                # An agent need not be given the site's store; one that is keeps its refusals there.
                keep_note(
                    self.site.store_uri,
                    site=self.site.site,
                    step="agent",
                    ticket=f"request {named}",
                    reason="",
                    error=error,
                )

    def _see_to(self, order: JobOrder) -> None:
        try:
            reason = self.has_done(order, self.cluster).reason or "failed: no answer"
        except Exception as error:
            # A thread that dies says nothing; whatever it was, the coordinator is not kept waiting for it.
            progress.tell(f"request {order.request[:12]}: {type(error).__name__}: {error}")
            reason = "failed"
        self._leave_notice(order.request, reason)

    def _leave_notice(self, named: str, reason: str) -> None:
        """Leaves a notice unless the Job has answered.

        The agent's identity may write to the exchange below its site's notices and nowhere else, so the store
        is opened there.
        """
        site, end = self.site.site, time.monotonic() + NOTICE_S
        while True:
            try:
                if not open_store(self.site.exchange_uri).exists(answer_key(site, named)):
                    notices = open_store(f"{self.site.exchange_uri}/notices/{site}")
                    create_or_read(notices, f"{named}.json", notice(reason))
            except StoreError as error:
                if time.monotonic() < end:
                    time.sleep(POLL_S)
                    continue
                progress.tell(f"request {named[:12]}: no notice of '{reason}' ({type(error).__name__})")
            return


def main() -> None:
    """Runs until it is ended; Jobs that are under way then go on, and the next agent adopts them."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        site = SiteSettings.of_environment(optional={"store_uri"})
        namespace = os.environ.get(NAMESPACE)
        if not namespace:
            raise UsageError(f"the agent's deployment must set {NAMESPACE}")
        site.policy()
        agent = Agent(
            site=site,
            cluster=Cluster(namespace=namespace, kubeconfig=os.environ.get("CROSSCLOUD_KUBECONFIG", "")),
        )
        _poll_for_ever(agent)
    except CrosscloudError as error:
        line = " ".join(str(error).split())
        print(f"{ERROR_PREFIX}{type(error).__name__}: {line}", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(error.exit_code)


def _poll_for_ever(agent: Agent) -> None:
    progress.tell(f"the agent of {agent.site.site} looks into {agent.site.exchange_uri}")
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="job") as pool:
        while True:
            try:
                agent.poll(pool)
            except CrosscloudError as error:
                progress.tell(f"nothing can be looked at for now: {type(error).__name__}: {error}")
            except Exception as error:
                # Not by way of the pool, which would wait for Jobs: Kubernetes starts the agent anew.
                progress.tell(f"the agent ends: {type(error).__name__}: {error}")
                os._exit(1)
            time.sleep(POLL_S)


if __name__ == "__main__":
    main()
