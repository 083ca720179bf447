"""A site's agent: `python3 -m components.site_steps.agent`, a deployment in the site's own cluster.

It looks into the exchange for requests that the coordinator has signed for this site, has each done as a
Job in its own namespace, and leaves a notice where a Job ended without an answer. So nobody outside the site
holds a right to create anything in its cluster, and the cluster is reached from nowhere. An agent that starts
again adopts the Jobs of the one before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from components.artifacts.stores import Store, open_store
from components.errors import CrosscloudError, ObjectExistsError, StoreError, UsageError
from components.execution import progress
from components.execution.central_step import ERROR_PREFIX
from components.execution.jobs.dispatch import run_job
from components.execution.jobs.ends import JobEnd
from components.execution.jobs.order import Cluster, JobOrder
from components.site_steps.answer import answer_key, notice, notice_key
from components.site_steps.request import DIGEST, StepRequest, order_of
from components.site_steps.settings import SiteSettings, agreed_request

POLL_S = 2.0
AT_ONCE = 8
"""Jobs that are watched at the same time; the steps of one round follow each other."""
NAMESPACE = "CROSSCLOUD_NAMESPACE"
MOST_TRIES = 5
"""A request that cannot be read for so many polls is passed over."""


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
            StoreError: the exchange cannot be read.
        """
        exchange = open_store(self.site.exchange_uri)
        begun: list[str] = []
        for named in self._waiting(exchange):
            try:
                request = agreed_request(named, self.site)
            except CrosscloudError as error:
                self._pass_over(named, error)
                continue
            self._seen.add(named)
            pool.submit(self._see_to, request)
            begun.append(named)
        return begun

    def _waiting(self, exchange: Store) -> list[str]:
        """Names of requests that were neither seen to nor answered."""
        prefix = f"requests/{self.site.site}"
        names = [key.removeprefix(f"{prefix}/").removesuffix(".json") for key in exchange.keys(prefix)]
        new = [named for named in names if DIGEST.fullmatch(named) and named not in self._seen]
        for named in new:
            if exchange.exists(answer_key(self.site.site, named)) or exchange.exists(
                notice_key(self.site.site, named)
            ):
                self._seen.add(named)
        return [named for named in new if named not in self._seen]

    def _pass_over(self, named: str, error: CrosscloudError) -> None:
        """No notice is left for what the coordinator has not signed: it did not ask."""
        self._tries[named] = self._tries.get(named, 0) + 1
        # A store may be away for a moment, and a policy may be about to be changed; a forgery stays one.
        if self._tries[named] >= MOST_TRIES:
            self._seen.add(named)
            self._tries.pop(named)
            progress.tell(f"request {named[:12]} is passed over ({type(error).__name__})")

    def _see_to(self, request: StepRequest) -> None:
        named = request.digest
        try:
            ended = self.has_done(order_of(request), self.cluster)
            reason = ended.reason
        except UsageError as error:
            progress.tell(f"request {named[:12]}: {error}")
            reason = "failed"
        except Exception as error:
            progress.tell(f"request {named[:12]}: {type(error).__name__}")
            reason = "failed"
        self._conclude(named, reason or "failed: no answer")

    def _conclude(self, named: str, reason: str) -> None:
        """Leaves a notice unless the Job has answered; the exchange is waited for."""
        site = self.site.site
        while True:
            with contextlib.suppress(StoreError):
                exchange = open_store(self.site.exchange_uri)
                if not exchange.exists(answer_key(site, named)):
                    with contextlib.suppress(ObjectExistsError):
                        exchange.create(notice_key(site, named), notice(reason))
                return
            time.sleep(POLL_S)


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
            except StoreError as error:
                progress.tell(f"the exchange cannot be read ({type(error).__name__})")
            time.sleep(POLL_S)


if __name__ == "__main__":
    main()
