"""The sharers: under `smc`, the sites of a roster that have dealt their shares, and so may seal.

Like the cut-off it is created once, by whoever seals first, and needs no signature: everybody who acts on
it checks the document of every sharer himself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from components.agreement.charter import Charter
from components.agreement.dealt_shares import DealtShares, read_shares_document, verified_shares
from components.agreement.roster import Roster
from components.agreement.ticket import Ticket
from components.artifacts.documents import canonical_json, digest
from components.artifacts.stores import Store
from components.errors import IntegrityError, ObjectMissingError, SignatureError


@dataclass(frozen=True, kw_only=True)
class Sharers:
    """Who may seal, and by which shares it can be helped out.

    Attributes:
        roster: rd.
        shares: SHA-256 of the signed document by sharer; it binds every share in it.
        left_out: why the others of the roster are none.
    """

    roster: str
    shares: Mapping[str, str]
    left_out: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """The digest of roster and shares, sd."""
        return digest(canonical_json({"roster": self.roster, "shares": dict(self.shares)}))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sharers, sorted."""
        return tuple(sorted(self.shares))

    def to_json(self) -> bytes:
        """What is stored."""
        return canonical_json(asdict(self))


def sharers_key(ticket: Ticket) -> str:
    """Where it lies in the exchange."""
    return f"{ticket.folder}/sharers.json"


def gather_sharers(exchange: Store, ticket: Ticket, roster: Roster, charter: Charter) -> Sharers:
    """The sharers as the exchange has them now: all whose document verifies."""
    found: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for site in roster.sites:
        try:
            document = read_shares_document(exchange, ticket, site)
            verified_shares(document, ticket, roster, site, charter)
            found[site] = digest(document)
        except ObjectMissingError:
            left_out[site] = "failed: no shares"
        except SignatureError as error:
            left_out[site] = f"refused: {error}"
    return Sharers(roster=roster.digest, shares=found, left_out=left_out)


def read_sharers(exchange: Store, ticket: Ticket, roster: Roster) -> Sharers:
    """The sharers of a roster.

    Raises:
        IntegrityError: it names sites that the roster does not, or was fixed for another roster.
        ObjectMissingError: nobody has sealed yet.
    """
    try:
        body = json.loads(exchange.read(sharers_key(ticket), limit=1 << 20))
        sharers = Sharers(
            roster=body["roster"],
            shares={str(site): str(named) for site, named in body["shares"].items()},
            left_out=dict(body["left_out"].items()),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"the sharers in {ticket.folder} are not in the form this version knows"
        ) from error
    if sharers.roster != roster.digest or not set(sharers.sites) <= set(roster.sites):
        raise IntegrityError(f"the sharers in {ticket.folder} do not follow from its roster")
    return sharers


def read_dealings(
    exchange: Store, ticket: Ticket, roster: Roster, sharers: Sharers, charter: Charter
) -> dict[str, DealtShares]:
    """What the sharers have dealt, verified one by one.

    Raises:
        SignatureError: one is missing, altered, or not the one that was fixed.
    """
    found: dict[str, DealtShares] = {}
    for site in sharers.sites:
        try:
            document = read_shares_document(exchange, ticket, site)
        except ObjectMissingError:
            raise SignatureError(f"{site} is one of the sharers, but its shares are not there") from None
        if digest(document) != sharers.shares[site]:
            raise SignatureError(f"the shares of {site} are not those that the sharers were fixed with")
        found[site] = verified_shares(document, ticket, roster, site, charter)
    return found
