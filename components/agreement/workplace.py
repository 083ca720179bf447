"""What a site step holds: its name, its keys, its policy, its own store, and the exchange it shares."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from components.agreement.charter import Charter
from components.agreement.charter_book import ancestry, pinned_charter
from components.agreement.cutoff import Cutoff
from components.agreement.lineage import check_follows, check_model
from components.agreement.model_store import read_model
from components.agreement.model_sums import (
    earlier_sums,
    hides_sites,
    require_counted_together,
    require_grouped,
)
from components.agreement.open_attempt import require_open
from components.agreement.replaced_keys import charter_signing_key
from components.agreement.round_secrets import erase, erase_others
from components.agreement.site_policy import SitePolicy, load_policy
from components.agreement.site_records import (
    accept_cutoff,
    accept_ticket,
    accepted_metrics,
    counted_sets,
    has_accepted,
    last_release,
    remember_counted,
    require_accepted,
)
from components.agreement.ticket import METRICS, UPDATE, Ticket, charter_named, check_terms, read_ticket
from components.agreement.void import check_attempt
from components.artifacts.stores import Store, key_of, open_store
from components.artifacts.tensors import Tensors
from components.errors import IntegrityError, ObjectMissingError, RefusedError
from components.execution.departures import Departures, Occasion
from components.execution.recorded_exchange import RecordedExchange


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """One site at work under one ticket, which its policy and charter allow."""

    site: str
    store: Store
    exchange: Store
    keys_uri: str
    policy: SitePolicy
    charter: Charter
    key: Ed25519PrivateKey
    ticket: Ticket

    @classmethod
    def open(
        cls, *, site: str, store_uri: str, exchange_uri: str, keys_uri: str, ticket: str, step: str = ""
    ) -> Workplace:
        """Opens the stores, loads the site's keys and policy, and verifies the ticket.

        Whatever is created in its exchange is written down in the site's own store first, as `step`'s.

        Raises:
            SignatureError: the ticket is not the coordinator's.
            RefusedError: the ticket is of another charter than the one the site has pinned, or
                asks for what its policy or the charter forbids.
        """
        policy = load_policy(keys_uri, site)
        policy.require_stores([store_uri, exchange_uri])
        exchange = open_store(exchange_uri)
        document = exchange.read(key_of(exchange, ticket), limit=1 << 16)
        charter = _pinned(policy, document, keys_uri, site)
        verified = read_ticket(document, charter)
        check_terms(verified, charter)
        policy.require_protection(charter.protection)
        store = open_store(store_uri)
        occasion = Occasion(
            step=step,
            reference=ticket,
            round_number=verified.round_number,
            attempt=verified.attempt,
            ticket=verified.digest,
            protection=charter.protection,
            least_sites=charter.min_sum_sites,
        )
        return cls(
            site=site,
            store=store,
            exchange=RecordedExchange(exchange, Departures(store=store, occasion=occasion)),
            keys_uri=keys_uri,
            policy=policy,
            charter=charter,
            key=charter_signing_key(keys_uri, site, charter),
            ticket=verified,
        )

    def accept(self, now: datetime) -> None:
        """Decides once whether the site takes part under this ticket, before any row is read.

        Secrets of attempts that this ticket ends are erased.

        Raises:
            RefusedError: the ticket is old, a second one, opened without a void, of an attempt that has gone
                on without this site, or its model is not the one that the last receipt gives.
        """
        if not has_accepted(self.store, self.ticket):
            require_open(self.exchange, self.ticket, self.charter, self.site)
        check_attempt(self.exchange, self.ticket, self.charter, ancestry(self.keys_uri, self.charter))
        check_model(self.exchange, self.keys_uri, self.ticket, self.charter)
        check_follows(self.exchange, self.keys_uri, self.ticket, self.charter, last_release(self.store))
        accept_ticket(self.store, self.ticket, now=now, rounds_a_day=self.policy.rounds_a_day)
        beside = accepted_metrics(self.store, self.ticket) if self.ticket.purpose == UPDATE else ()
        erase_others(self.store, self.ticket.digest, *beside)

    def require_purpose(self, purpose: str) -> None:
        """`RefusedError` unless the ticket is of this purpose: what a step does is priced by it."""
        if self.ticket.purpose != purpose:
            text = f"the step works under a ticket of purpose {purpose}, this one's is {self.ticket.purpose}"
            raise RefusedError(text, disclosed=text)

    def require_accepted(self) -> None:
        """`RefusedError` unless `accept` has passed this ticket."""
        require_accepted(self.store, self.ticket)

    def accept_cutoff(self, cutoff: Cutoff) -> None:
        """Remembers that the site lifts its masks from this set's sum; see `site_records.accept_cutoff`."""
        if self.ticket.purpose == METRICS and hides_sites(self.charter):
            remember_counted(self.store, self.ticket, cutoff.members)
        accept_cutoff(self.store, self.ticket, roster=cutoff.roster, cutoff=cutoff.digest)

    def end_metrics(self) -> None:
        """Erases the secrets of a ticket for metrics, whose masks the site has lifted: nothing follows it."""
        if self.ticket.purpose == METRICS:
            erase(self.store, self.ticket.digest)

    def require_grouped(self, members: Collection[str]) -> None:
        """`RefusedError` unless their sum, with earlier ones that tell of the same, shows nobody apart."""
        if self.ticket.purpose == METRICS:
            if hides_sites(self.charter):
                require_counted_together(counted_sets(self.store, self.ticket), members, self.charter)
            return
        try:
            earlier = earlier_sums(self.exchange, self.keys_uri, self.ticket, self.charter)
        except (IntegrityError, ObjectMissingError) as error:
            text = f"the rounds whose model round {self.ticket.round_number} goes back to cannot be traced"
            raise RefusedError(f"{text}: {error}", disclosed=text) from error
        require_grouped(earlier, members, self.charter)

    def require_encoder(self, weights: str) -> None:
        """`RefusedError` unless this language model is the charter's and the policy's."""
        if self.charter.encoder and weights != self.charter.encoder:
            text = f"the language model with digest {weights[:12]} is not the one the charter names"
            raise RefusedError(text, disclosed=text)
        self.policy.require_encoder(weights)

    def model(self) -> Tensors:
        """The global model that the ticket names."""
        return read_model(self.exchange, self.ticket.model)


def _pinned(policy: SitePolicy, ticket: bytes, keys_uri: str, site: str) -> Charter:
    """The charter of the policy, if the ticket names it."""
    named = charter_named(ticket)
    if named not in {policy.charter, policy.next_charter}:
        _refuse_foreign(named, site, policy.charter)
    charter = pinned_charter(keys_uri, policy.charter, policy.next_charter)
    if named != charter.digest:
        _refuse_foreign(named, site, charter.digest)
    if site not in charter.sites:
        text = f"the charter of {charter.federation} does not name {site}"
        raise RefusedError(text, disclosed=text)
    return charter


def _refuse_foreign(named: str, site: str, pinned: str) -> NoReturn:
    text = f"the ticket names a foreign charter, {named[:12]}: {site} has pinned {pinned[:12]}"
    raise RefusedError(text, disclosed=text)
