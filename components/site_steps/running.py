"""Runs a site's step where its placement says, and turns whatever happens into an outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from components.agreement.workplace import Workplace
from components.execution.outcome import Outcome, plain
from components.execution.site_step import SiteStep
from components.site_steps.steps import bound


def run_at_site(
    name: str,
    arguments: Mapping[str, Any],
    *,
    site: str,
    store_uri: str,
    exchange_uri: str,
    keys_uri: str,
    ticket: str,
    deadline_s: int,
    reason: str = "",
    job: str = "",
    works_on: str | None = None,
) -> Outcome:
    """Does a site's step: here, or as a Job in the site's own cluster.

    Where no ticket was issued, or what it works on came to nothing, nothing is done.

    Args:
        name: of the step.
        arguments: the step's own, as JSON can carry them.
        site: name of the site.
        store_uri: the site's own store.
        exchange_uri: the store all parties read.
        keys_uri: folder of the charters.
        ticket: reference of the ticket; empty where none was issued.
        deadline_s: seconds the work may take.
        reason: why the site is left out already; then nothing is done.
        job: terms on which it runs as a Job (`JobTerms`); empty to run it here.
        works_on: reference of what a step outside the sites made for this one; empty where that is nothing,
            None where it needs none.
    """
    if reason:
        return Outcome(reason=plain(reason))
    if not ticket or works_on == "":
        return Outcome()
    if job:
        from components.site_steps.dispatch import dispatch

        return dispatch(
            name,
            arguments,
            site=site,
            exchange_uri=exchange_uri,
            keys_uri=keys_uri,
            ticket=ticket,
            deadline_s=deadline_s,
            job=job,
        )
    return run_here(
        name,
        arguments,
        site=site,
        store_uri=store_uri,
        exchange_uri=exchange_uri,
        keys_uri=keys_uri,
        ticket=ticket,
        deadline_s=deadline_s,
    )


def run_here(
    name: str,
    arguments: Mapping[str, Any],
    *,
    site: str,
    store_uri: str,
    exchange_uri: str,
    keys_uri: str,
    ticket: str,
    deadline_s: int,
) -> Outcome:
    """Does a step's work in a child of this process, guarded; arguments as of `run_at_site`."""
    step = SiteStep(
        name=name,
        site=site,
        store_uri=store_uri,
        exchange_uri=exchange_uri,
        ticket=ticket,
        deadline_s=deadline_s,
    )

    def at_work() -> Outcome:
        work = bound(name, arguments)
        place = Workplace.open(
            site=site,
            store_uri=store_uri,
            exchange_uri=exchange_uri,
            keys_uri=keys_uri,
            ticket=ticket,
            step=name,
        )
        return replace(work(place), ticket=place.ticket.digest)

    return step.run(at_work)
