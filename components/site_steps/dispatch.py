"""The coordinator's half of a step that runs in a site's own cluster: ask, wait, read the site's answer.

What asks holds no key of the site and reads nothing of it: a signed request goes to the exchange, a Job
that names it is created by this process or by the site's agent, and the answer that the site has signed is
read from the exchange. Whoever asks again for the same step of the same ticket, after a crash for instance,
makes the same request and finds the Job that runs, or the answer that is there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.attempt import Attempt
from components.agreement.charter import COORDINATOR
from components.agreement.replaced_keys import charter_signing_key
from components.artifacts.stores import create_or_read
from components.errors import SignatureError, StoreError, UsageError
from components.execution import progress
from components.execution.jobs.dispatch import run_job
from components.execution.jobs.order import START_GRACE_S, Cluster
from components.execution.outcome import Outcome, disclosed_reason, plain
from components.site_steps.answer import read_answer, read_notice
from components.site_steps.job_terms import JobTerms, kubeconfig_of
from components.site_steps.request import StepRequest, order_of, request_key
from components.site_steps.steps import COMPUTING

POLL_S = 2.0
AGENT_GRACE_S = 60.0
"""Seconds that a site's agent has to see a request and to leave a notice, beyond the Job's own."""
ANSWER_GRACE_S = 60.0
"""Seconds that the exchange may be away when a Job has ended."""
MOST_ATTEMPTS = 100


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that lies in the exchange, and how it is waited for."""

    attempt: Attempt
    request: StepRequest
    terms: JobTerms

    def answer(self) -> Outcome | None:
        """What the site says by now, or its agent where that creates the Jobs.

        Raises:
            SignatureError: what lies where its answer belongs is not the site's.
        """
        exchange, request = self.attempt.exchange, self.request
        told = read_answer(exchange, request.site, request.digest, self.attempt.charter)
        if told is None and self.terms.door == "agent":
            told = read_notice(exchange, request.site, request.digest)
        return told

    def known(self) -> Outcome | None:
        """As `answer`, before it is asked: what is not the site's is a reason, so that it is asked anew."""
        try:
            return self.answer()
        except SignatureError as error:
            return Outcome(reason=disclosed_reason(error))


def dispatch(
    name: str,
    arguments: Mapping[str, Any],
    *,
    site: str,
    exchange_uri: str,
    keys_uri: str,
    ticket: str,
    deadline_s: int,
    job: str,
) -> Outcome:
    """Has a step done in a site's own cluster; arguments as of `run_at_site`.

    Returns:
        The site's outcome, or a reason of this process: `unreachable`, `denied`, `image`, `oom`, `evicted`,
        `timeout` or `failed`. Nothing is raised but what ends the process.
    """
    progress.note("begun", step=name, party=site, ticket=ticket)
    try:
        terms = JobTerms.from_text(job)
        attempt = Attempt.open(ticket, exchange_uri=exchange_uri, keys_uri=keys_uri)
        asked = _request(
            name,
            arguments,
            attempt=attempt,
            ticket=ticket,
            site=site,
            deadline_s=deadline_s,
            terms=terms,
        )
        outcome = _ask(attempt, asked, terms, keys_uri)
    except Exception as error:
        outcome = Outcome(reason=_reason(error))
    if outcome.reason:
        progress.tell(f"{progress.LEFT_OUT}{outcome.reason}")
        progress.note("left_out", step=name, party=site, ticket=ticket, reason=outcome.reason)
    else:
        progress.note("done", step=name, party=site, ticket=ticket)
    return outcome


def _reason(error: Exception) -> str:
    """A fault of the dispatcher's own is the coordinator's to mend, so it may be told in full."""
    return plain(f"failed: {error}") if isinstance(error, UsageError) else disclosed_reason(error)


def _request(
    name: str,
    arguments: Mapping[str, Any],
    *,
    attempt: Attempt,
    ticket: str,
    site: str,
    deadline_s: int,
    terms: JobTerms,
) -> StepRequest:
    if site not in attempt.charter.sites:
        raise UsageError(f"the charter of {attempt.charter.federation} does not name {site}")
    computes = name in COMPUTING
    return StepRequest(
        charter=attempt.charter.digest,
        ticket=ticket,
        site=site,
        step=name,
        arguments=dict(arguments),
        deadline_s=deadline_s,
        accelerator=terms.accelerator if computes else "",
        accelerators=terms.accelerators if computes else 0,
        attempt=1,
    )


def _ask(attempt: Attempt, first: StepRequest, terms: JobTerms, keys_uri: str) -> Outcome:
    for request in _attempts(first):
        asked = Asked(attempt=attempt, request=request, terms=terms)
        told = asked.known()
        if told is None:
            _publish(asked, charter_signing_key(keys_uri, COORDINATOR, attempt.charter))
            return _by_agent(asked) if terms.door == "agent" else _by_job(asked)
        if not told.reason:
            return told
    raise UsageError(f"{first.site} has given {MOST_ATTEMPTS} reasons for one step of one ticket: void it")


def _attempts(first: StepRequest) -> Iterator[StepRequest]:
    """One that was answered with a reason is asked for anew, as a step is that is run again."""
    return (replace(first, attempt=number) for number in range(1, MOST_ATTEMPTS + 1))


def _publish(asked: Asked, key: Ed25519PrivateKey) -> None:
    exchange, request = asked.attempt.exchange, asked.request
    document = request.signed(key)
    if create_or_read(exchange, request_key(request.site, request.digest), document) != document:
        raise SignatureError(f"something else lies where the request {request.digest[:12]} belongs")


def _by_job(asked: Asked) -> Outcome:
    """Creates or adopts the Job, and reads the answer once it has ended."""
    request, terms = asked.request, asked.terms
    cluster = Cluster(namespace=terms.namespace, kubeconfig=str(kubeconfig_of(request.site)))
    ended = run_job(order_of(request), cluster)
    told = _awaited(asked, ANSWER_GRACE_S, until_read=True)
    if told is not None:
        return told
    return Outcome(reason=plain(ended.reason) or f"failed: the Job of {request.step} ended without an answer")


def _by_agent(asked: Asked) -> Outcome:
    """Waits until the site's agent has had the Job run."""
    patience = asked.request.deadline_s + START_GRACE_S + AGENT_GRACE_S
    told = _awaited(asked, patience, until_read=False)
    return told or Outcome(reason=f"unreachable: the agent of {asked.request.site} did not answer")


def _awaited(asked: Asked, seconds: float, *, until_read: bool) -> Outcome | None:
    """The answer once it is there, or None.

    An exchange that is away for a moment must not cost the site its round.

    Args:
        asked: what was asked.
        seconds: to wait for.
        until_read: whether an exchange that has been read and holds none is answer enough.

    Raises:
        StoreError: the exchange could not be read to the last.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            told = asked.answer()
            if told is not None or until_read or time.monotonic() >= end:
                return told
        except StoreError:
            if time.monotonic() >= end:
                raise
        time.sleep(POLL_S)
