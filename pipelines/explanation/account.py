"""A site's account of itself: what has left it, what it refused, and what that has cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from components.agreement.private_keys import private_folder
from components.agreement.site_policy import POLICY, PrivacyPolicy, SitePolicy, load_policy
from components.artifacts.stores import Store, open_store
from components.errors import RefusedError, UsageError
from components.execution.departures import Departure, Occasion, read_departures
from components.execution.notes import Note, read_notes
from components.privacy.charging import open_ledger
from components.privacy.ledger import Statement
from pipelines.federation import Federation


@dataclass(frozen=True, kw_only=True)
class SiteAccount:
    """From the site's own store and policy alone.

    Attributes:
        site: whose it is.
        store: its own.
        policy: its own.
        departures: what has left it, in the order of time.
        notes: steps that came to nothing, refused requests among them, in the order of time.
        terms: of its privacy budget; None where it has none.
        statement: what its ledger says; None likewise.
    """

    site: str
    store: Store
    policy: SitePolicy
    departures: list[Departure]
    notes: list[Note]
    terms: PrivacyPolicy | None
    statement: Statement | None


def site_account(
    federation: Federation, site: str, *, now: datetime, round_number: int | None = None
) -> SiteAccount:
    """Reads a site's own records.

    Args:
        federation: as its file says.
        site: its name.
        now: with its time zone.
        round_number: of which alone departures and notes are told; by default of all.

    Raises:
        UnknownSiteError: there is no such site.
        UsageError: its policy is not on this machine, or does not admit the store that the file names.
        StoreError: its store cannot be read.
        IntegrityError: a record, or the ledger, was altered.
    """
    section = federation.site(site)
    policy = own_policy(federation, site)
    store = open_store(section.store_uri)
    notes = read_notes(store)
    if round_number is not None:
        notes = [
            each for each in notes if Occasion.referred(each.step, each.ticket).round_number == round_number
        ]
    terms = policy.privacy
    return SiteAccount(
        site=site,
        store=store,
        policy=policy,
        departures=read_departures(store, round_number=round_number),
        notes=notes,
        terms=terms,
        statement=open_ledger(terms).statement(now=now) if terms else None,
    )


def own_policy(federation: Federation, site: str) -> SitePolicy:
    """The policy of a site whose own people ask, which must admit the store that the file names.

    Raises:
        UsageError: it is not on this machine, or does not.
    """
    path = private_folder(federation.keys_uri, site) / POLICY
    if not path.is_file():
        raise UsageError(
            f"{site}: there is no {path}: only its own people may ask, where its keys and its policy lie "
            "(set CROSSCLOUD_KEYS to their folder)"
        )
    policy = load_policy(federation.keys_uri, site)
    try:
        policy.require_stores([federation.site(site).store_uri])
    except RefusedError as error:
        raise UsageError(f"{site}: {error}") from None
    return policy
