"""One attempt of a round as a party outside the sites sees it: the exchange, the charter, the ticket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from components.agreement.charter import Charter
from components.agreement.charter_book import charter_of, pinned_charter
from components.agreement.cutoff import Cutoff, read_cutoff
from components.agreement.key_certificate import CertifiedKey, key_of_round
from components.agreement.protections import UNMASK
from components.agreement.roster import Roster, read_roster, roster_key
from components.agreement.sealed_manifest import SealedManifest, read_manifest
from components.agreement.sharers import read_sharers
from components.agreement.site_policy import load_policy
from components.agreement.ticket import METRICS, Ticket, charter_named, read_ticket
from components.artifacts.stores import Store, key_of, open_store
from components.errors import ObjectMissingError, QuorumNotReachedError, SignatureError


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Everything read through it is verified."""

    exchange: Store
    keys_uri: str
    charter: Charter
    ticket: Ticket

    @classmethod
    def open(cls, ticket: str, *, exchange_uri: str, keys_uri: str, pinned_by: str = "") -> Attempt:
        """Opens the exchange and verifies the ticket that `ticket` refers to.

        Args:
            ticket: its reference.
            exchange_uri: store that all parties read.
            keys_uri: folder of the charters.
            pinned_by: party in whose policy the ticket's charter must stand; empty for those who
                need not be trusted, the aggregator and the coordinator.

        Raises:
            SignatureError: the ticket is not the coordinator's, or its charter is a foreign one.
        """
        exchange = open_store(exchange_uri)
        document = exchange.read(key_of(exchange, ticket), limit=1 << 16)
        named = charter_named(document)
        if pinned_by:
            policy = load_policy(keys_uri, pinned_by)
            known = named in {policy.charter, policy.next_charter}
            if not known or named != pinned_charter(keys_uri, policy.charter, policy.next_charter).digest:
                raise SignatureError(
                    f"the ticket names a foreign charter, {named[:12]}: {pinned_by} has not signed it, "
                    "or a later one is in force"
                )
        charter = charter_of(keys_uri, named)
        return cls(
            exchange=exchange, keys_uri=keys_uri, charter=charter, ticket=read_ticket(document, charter)
        )

    def certificate(self) -> CertifiedKey | None:
        """The encryption key that serves this round; None where there is none to have."""
        return self._certified

    @cached_property
    def _certified(self) -> CertifiedKey | None:
        # Asked for with every manifest: the whole chain of certificates need not be verified each time.
        return key_of_round(self.keys_uri, self.charter, self.ticket.round_number)

    def roster(self) -> Roster:
        """The roster; `SignatureError` if it is another ticket's."""
        with self._none_of_metrics("no roster was called"):
            document = self.exchange.read(roster_key(self.ticket), limit=1 << 20)
        return read_roster(document, self.ticket, self.charter)

    def sealing_sites(self, roster: Roster) -> tuple[str, ...]:
        """Who may seal under a roster: all of it, or under `smc` its sharers, as far as they are fixed."""
        if self.charter.traits.lifted_by != UNMASK:
            return roster.sites
        try:
            return read_sharers(self.exchange, self.ticket, roster).sites
        except ObjectMissingError:
            return ()

    def cutoff(self, roster: Roster) -> Cutoff:
        """The cut-off; `IntegrityError` if it does not follow from the roster."""
        with self._none_of_metrics("nothing was summed"):
            return read_cutoff(self.exchange, self.ticket, roster)

    @contextlib.contextmanager
    def _none_of_metrics(self, text: str) -> Iterator[None]:
        """Metrics may have ended a step before: what is missing then is no fault of anybody's."""
        try:
            yield
        except ObjectMissingError:
            if self.ticket.purpose != METRICS:
                raise
            raise QuorumNotReachedError(f"the metrics of round {self.ticket.round_number}: {text}") from None

    def manifest(self, roster: Roster, site: str) -> SealedManifest:
        """A site's verified manifest; see `read_manifest`."""
        certified = self.certificate()
        return read_manifest(
            self.exchange,
            self.ticket,
            roster,
            site,
            charter=self.charter,
            certificate=certified.digest if certified else "",
        )
