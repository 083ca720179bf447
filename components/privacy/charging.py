"""A round against the site's own ledger: paid for before any row is read, shown in the commitment.

Peers and the key holder remember the head that each site has shown last, and follow it from
commitment to commitment: a ledger that was rolled back, cut or forked is noticed by all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import NoReturn

from components.agreement.charter import Charter
from components.agreement.commitment import DOMAIN, Commitment
from components.agreement.ledger_head import LedgerHead, follows, read_ledger_head
from components.agreement.model_store import model_shapes
from components.agreement.privacy_unit import read_unit
from components.agreement.site_policy import PrivacyPolicy, SitePolicy
from components.agreement.ticket import METRICS, Ticket, metrics_folder
from components.agreement.workplace import Workplace
from components.artifacts.documents import canonical_json, verify
from components.artifacts.stores import Store, create_or_read, open_store
from components.errors import IntegrityError, ObjectMissingError, RefusedError
from components.privacy.allowance import Budget
from components.privacy.ledger import Ledger
from components.privacy.ledger_entry import Charge
from components.privacy.round_noise import is_private, round_event

SHOWN_ENTRIES = 512
"""Digests of the newest entries in every commitment: a peer that has missed fewer can follow them."""
_HEADS = "ledger-heads"


def open_ledger(policy: PrivacyPolicy, *, known: LedgerHead | None = None) -> Ledger:
    """The ledger that a site's policy names, verified; every federation that reads the data shares it.

    Raises:
        IntegrityError: an entry was altered, is gone, or is not the one that was shown as `known`.
    """
    budget = Budget(epsilon=policy.epsilon, delta=policy.delta, per=policy.per)
    store = open_store(policy.ledger_uri)
    return Ledger.open(store, dataset=policy.dataset, unit=policy.unit, budget=budget, known=known)


def charge_ticket(place: Workplace, *, now: datetime) -> None:
    """Pays for what the ticket's sum will release; a ticket that was paid for is not charged again.

    Nothing is charged under a charter without noise, which a site with a privacy budget refuses.

    Raises:
        PrivacyBudgetExceededError: the budget does not hold it; nothing was charged.
        RefusedError: the policy asks for more noise than the charter has, or sets no budget.
        IntegrityError: the ledger was altered, cut or rolled back.
    """
    terms = _require_terms(place.policy, place.charter, place.ticket)
    if terms is None:
        return
    ticket = place.ticket
    shapes = model_shapes(place.exchange, ticket.model)
    event = round_event(place.charter, ticket.round_number, shapes, ticket.purpose)
    ledger = _published_ledger(place, terms)
    ledger.charge(
        Charge(
            federation=ticket.federation,
            charter=ticket.charter,
            ticket=ticket.digest,
            round_number=ticket.round_number,
            attempt=ticket.attempt,
            purpose=ticket.purpose,
        ),
        event,
        now=now,
    )


def charged_head(place: Workplace) -> LedgerHead | None:
    """The head that the site shows in its commitment; None where nothing is charged.

    Raises:
        RefusedError: the ticket was not charged.
    """
    terms = _require_terms(place.policy, place.charter, place.ticket)
    if terms is None:
        return None
    ledger = _published_ledger(place, terms)
    if all(entry.charge.ticket != place.ticket.digest for entry in ledger.entries()):
        _refuse(f"round {place.ticket.round_number} was not charged to the site's privacy ledger")
    head = ledger.head(since=max(0, ledger.head().length - SHOWN_ENTRIES))
    return _remember(place.store, place.site, place.ticket, head)


def follow_heads(
    store: Store, charter: Charter, ticket: Ticket, commitments: Mapping[str, Commitment]
) -> None:
    """Passes commitments whose ledgers go on from what this party has seen of them; see `follow_head`.

    Raises:
        RefusedError: a site shows no ledger, or one that was rolled back, cut or forked.
    """
    for site, commitment in sorted(commitments.items()):
        follow_head(store, charter, ticket, commitment, site=site)


def follow_head(store: Store, charter: Charter, ticket: Ticket, commitment: Commitment, *, site: str) -> None:
    """Passes a commitment whose ledger goes on from what this party has seen of it, and remembers it.

    Args:
        store: the party's own; the coordinator remembers in the exchange.
        charter: of the ticket.
        ticket: verified.
        commitment: the site's, verified.
        site: whose it is. What was seen is kept by name: a renewed key begins no new memory.

    Raises:
        RefusedError: the site shows no ledger, or one that was rolled back, cut or forked.
    """
    if (commitment.ledger is not None) != is_private(charter):
        _refuse(f"{site} shows {'no' if is_private(charter) else 'a'} privacy ledger in its commitment")
    if commitment.ledger is None:
        return
    try:
        head = read_ledger_head(commitment.ledger)
        # A ticket that comes again shows what it showed before.
        if not store.exists(_head_key(site, ticket)):
            follows(_last_shown(store, site), head)
        same = _remember(store, site, ticket, head) == head
    except IntegrityError as error:
        _refuse(f"{site}: {error}")
    if not same:
        _refuse(f"{site} has shown another privacy ledger for round {ticket.round_number} before")


def shown_heads(store: Store, site: str) -> Iterable[LedgerHead]:
    """What a party has seen of a site's ledger, in the order of rounds."""
    for key in _head_keys(store, site):
        yield _read(store.read(key, limit=1 << 20))


def _require_terms(policy: SitePolicy, charter: Charter, ticket: Ticket) -> PrivacyPolicy | None:
    """The site's terms where its updates are noised; both sides must want it."""
    if not is_private(charter):
        if policy.privacy is not None:
            _refuse("the site's policy asks for differential privacy, the charter has none")
        return None
    if policy.privacy is None or charter.privacy is None:
        _refuse("the charter asks for differential privacy and the site's policy sets no budget for it")
    sigma = charter.privacy.noise_multiplier(ticket.round_number)
    if ticket.purpose == METRICS and charter.privacy.metrics:
        sigma = charter.privacy.metrics.noise_multiplier
    if sigma is not None and sigma < policy.privacy.least_noise_multiplier:
        _refuse(
            f"the site's policy asks for a noise multiplier of at least "
            f"{policy.privacy.least_noise_multiplier:g}, round {ticket.round_number} has {sigma:g}"
        )
    read_unit(policy.privacy, charter.privacy)
    return policy.privacy


def _published_ledger(place: Workplace, terms: PrivacyPolicy) -> Ledger:
    """The site's ledger, which goes on from every head it has shown, as far as is known here.

    A store that was restored from a backup has forgotten both entries and record; the exchange has not.
    """
    heads = {head.head: head for head in _known_heads(place)}
    ledgers = [open_ledger(terms, known=head) for head in heads.values()]
    return ledgers[-1] if ledgers else open_ledger(terms)


def _known_heads(place: Workplace) -> Iterator[LedgerHead]:
    """What the site has shown last by its own record, and what it showed in the last committed round."""
    own = _last_shown(place.store, place.site)
    if own:
        yield own
    folder = place.ticket.previous_folder
    for each in (folder, metrics_folder(folder)) if folder else ():
        shown = _committed_head(place.exchange, place.charter, each, place.site)
        if shown:
            yield shown


def _committed_head(exchange: Store, charter: Charter, folder: str, site: str) -> LedgerHead | None:
    """What a site's commitment says in a folder of the exchange; None where it made none.

    Its signature is checked with the site's present key: one made with a key since renewed counts as none.
    """
    try:
        document = exchange.read(f"{folder}/commitments/{site}.json", limit=1 << 16)
        ledger = verify(document, domain=DOMAIN, signer=site, key=charter.key(site)).get("ledger")
        return None if ledger is None else read_ledger_head(ledger)
    except (ObjectMissingError, IntegrityError):
        return None


def _last_shown(store: Store, site: str) -> LedgerHead | None:
    keys = _head_keys(store, site)
    return _read(store.read(keys[-1], limit=1 << 20)) if keys else None


def _remember(store: Store, site: str, ticket: Ticket, head: LedgerHead) -> LedgerHead:
    """Keeps the head a ticket was shown with; the first one stays."""
    return _read(create_or_read(store, _head_key(site, ticket), canonical_json(asdict(head))))


def _read(document: bytes) -> LedgerHead:
    try:
        return read_ledger_head(json.loads(document))
    except (ValueError, RecursionError):
        raise IntegrityError("what was remembered of a privacy ledger was altered") from None


def _head_keys(store: Store, site: str) -> list[str]:
    """What was remembered of a site, in the order in which it was shown: metrics follow their update."""
    keys = store.keys(f"{_HEADS}/{site}")
    return sorted(keys, key=lambda key: (key.rpartition("-")[0], key.endswith(f"-{METRICS}.json")))


def _head_key(site: str, ticket: Ticket) -> str:
    return f"{_HEADS}/{site}/{ticket.round_number:09d}-{ticket.attempt:06d}-{ticket.purpose}.json"


def _refuse(text: str) -> NoReturn:
    raise RefusedError(text, disclosed=text)
