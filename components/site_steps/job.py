"""What runs inside a Job of a site: `python3 -m components.site_steps.job STEP REQUEST`.

Everything but the step's name and the request's digest comes from the site: its name and stores from its
template's environment, its keys and policy from its own secret and ConfigMap. The request is read from the
exchange and must be signed by the coordinator of the charter that the policy pins.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from components.agreement.charter_book import charter_of
from components.agreement.private_keys import load_signing_key
from components.agreement.replaced_keys import charter_signing_key
from components.artifacts.documents import verify
from components.artifacts.stores import create_or_read, open_store
from components.errors import CrosscloudError, SignatureError, StoreError, UsageError
from components.execution import progress
from components.execution.central_step import ERROR_PREFIX
from components.execution.departures import Departures, Occasion
from components.execution.notes import keep_note
from components.execution.outcome import Outcome, disclosed_reason
from components.execution.recorded_exchange import RecordedExchange
from components.site_steps.answer import DOMAIN, answer_document, answer_key
from components.site_steps.request import DIGEST, StepRequest
from components.site_steps.running import run_here
from components.site_steps.settings import SiteSettings, agreed_request
from components.site_steps.steps import STEPS


def main(arguments: list[str]) -> None:
    """Does one step and leaves its answer in the exchange.

    A step that leaves the site out of the round is a Job that has completed; one that cannot answer at all,
    because settings or keys are missing, fails with one line.
    """
    try:
        answer(*_named(arguments), SiteSettings.of_environment())
    except CrosscloudError as error:
        line = " ".join(str(error).split())
        print(f"{ERROR_PREFIX}{type(error).__name__}: {line}", file=sys.stderr, flush=True)  # noqa: T201
        if os.environ.get("CROSSCLOUD_DEBUG"):
            raise
        sys.exit(error.exit_code)


def answer(step: str, named: str, site: SiteSettings) -> Outcome:
    """Does the step of a request and publishes its outcome, once.

    Args:
        step: its name.
        named: digest of the request.
        site: whose Job this is.

    Raises:
        UsageError: the site's keys are missing.
        StoreError: the exchange cannot be reached, or holds no such request.
        SignatureError: something else lies where the answer belongs.
    """
    key = load_signing_key(site.keys_uri, site.site)
    exchange, own = open_store(site.exchange_uri), open_store(site.store_uri)
    asked = f"request {named}"
    try:
        request = _request(step, named, site)
    except StoreError:
        # Not an answer: the Job fails, and the same request can be done once the exchange is there.
        raise
    except CrosscloudError as error:
        outcome = Outcome(reason=disclosed_reason(error))
        keep_note(site.store_uri, site=site.site, step=step, ticket=asked, reason=outcome.reason, error=error)
        progress.tell(f"{progress.LEFT_OUT}{outcome.reason}")
    else:
        asked = request.ticket
        key = charter_signing_key(site.keys_uri, site.site, charter_of(site.keys_uri, request.charter))
        outcome = run_here(
            step,
            request.arguments,
            site=site.site,
            store_uri=site.store_uri,
            exchange_uri=site.exchange_uri,
            keys_uri=site.keys_uri,
            ticket=request.ticket,
            deadline_s=request.deadline_s,
        )
    document = answer_document(outcome, site=site.site, named=named, key=key)
    occasion = Occasion.referred(step, asked, ticket=outcome.ticket)
    recorded = RecordedExchange(exchange, Departures(store=own, occasion=occasion))
    written = create_or_read(recorded, answer_key(site.site, named), document)
    # Another one is of a Job that was replaced while it ran: what it answered stands.
    verify(written, domain=DOMAIN, signer=site.site, key=key.public_key())
    return replace(outcome, ticket="")


def _named(arguments: list[str]) -> tuple[str, str]:
    if len(arguments) != 2 or arguments[0] not in STEPS or not DIGEST.fullmatch(arguments[1]):
        raise UsageError(f"usage: components.site_steps.job {'|'.join(STEPS)} REQUEST, of 64 hex digits")
    return arguments[0], arguments[1]


def _request(step: str, named: str, site: SiteSettings) -> StepRequest:
    request = agreed_request(named, site, site.charters())
    if request.step != step:
        raise SignatureError(f"the request {named[:12]} is for {request.step}, the Job is for {step}")
    return request


if __name__ == "__main__":
    main(sys.argv[1:])
