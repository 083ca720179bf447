"""One attempt of a round as a party outside the sites sees it: the exchange, the keys, the ticket."""

from __future__ import annotations

from dataclasses import dataclass

from components.agreement.cutoff import Cutoff, read_cutoff
from components.agreement.parties import Parties, load_parties
from components.agreement.roster import Roster, read_roster, roster_key
from components.agreement.sealed_manifest import SealedManifest, read_sealed
from components.agreement.ticket import Ticket, read_ticket
from components.artifacts.stores import Store, key_of, open_store


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Everything read through it is verified."""

    exchange: Store
    parties: Parties
    ticket: Ticket

    @classmethod
    def open(cls, ticket: str, *, exchange_uri: str, keys_uri: str) -> Attempt:
        """Opens the exchange and verifies the ticket that `ticket` refers to.

        Raises:
            SignatureError: the ticket is not the coordinator's.
        """
        parties, exchange = load_parties(keys_uri), open_store(exchange_uri)
        document = exchange.read(key_of(exchange, ticket), limit=1 << 16)
        return cls(exchange=exchange, parties=parties, ticket=read_ticket(document, parties))

    def roster(self) -> Roster:
        """The roster; `SignatureError` if it is another ticket's."""
        document = self.exchange.read(roster_key(self.ticket), limit=1 << 20)
        return read_roster(document, self.ticket, self.parties)

    def cutoff(self, roster: Roster) -> Cutoff:
        """The cut-off; `IntegrityError` if it does not follow from the roster."""
        return read_cutoff(self.exchange, self.ticket, roster)

    def sealed(self, roster: Roster, site: str) -> tuple[SealedManifest, bytes]:
        """A site's verified manifest and the sealed bytes, unparsed; see `read_sealed`."""
        return read_sealed(self.exchange, self.ticket, roster, site, self.parties)
