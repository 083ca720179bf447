"""How a site accepts the roster it is called to, and under `smc` the sharers: each once, ever."""

from __future__ import annotations

from components.agreement.commitment import Commitment
from components.agreement.roster import Roster, read_commitments, read_roster
from components.agreement.sharers import Sharers, gather_sharers, read_dealings, read_sharers, sharers_key
from components.agreement.site_records import accept_roster, accept_sharers
from components.agreement.workplace import Workplace
from components.artifacts.documents import digest
from components.artifacts.stores import create_or_read, key_of
from components.errors import RefusedError
from components.privacy.charging import follow_heads


def accept_called_roster(place: Workplace, roster: str) -> tuple[Roster, dict[str, Commitment]]:
    """Checks a roster as its site must, remembers it, and gives the commitments on it.

    Args:
        place: the site's.
        roster: its reference.

    Raises:
        RefusedError: it is too small, lacks a peer the site insists on, does not hold this site's
            commitment, or differs from the one the site has seen for this ticket.
        SignatureError: it is not the coordinator's, or a commitment on it is not its site's.
    """
    ticket, charter = place.ticket, place.charter
    document = place.exchange.read(key_of(place.exchange, roster), limit=1 << 20)
    called = read_roster(document, ticket, charter)
    if len(called.sites) < charter.min_sites:
        _refuse(
            f"the roster of round {ticket.round_number} has {len(called.sites)} sites, "
            f"the charter asks for {charter.min_sites}"
        )
    if place.site not in called.commitments:
        _refuse(f"the roster of round {ticket.round_number} does not hold this site's commitment")
    place.policy.require_peers(called.sites)
    commitments = read_commitments(place.exchange, ticket, called, charter)
    follow_heads(place.store, charter, ticket, commitments)
    accept_roster(place.store, ticket, called.digest)
    return called, commitments


def kept_shares_key(roster: Roster) -> str:
    """Where a site keeps the shares it has dealt under a roster, in its own store."""
    return f"shares/{roster.digest}.json"


def accept_fixed_sharers(place: Workplace, roster: Roster) -> Sharers:
    """Fixes who may seal under a roster, or checks who was fixed, and remembers it.

    Args:
        place: the site's.
        roster: accepted.

    Raises:
        RefusedError: too few sites have dealt their shares, this one is not among them or stands there with
            others than its own, a peer it insists on is missing, or another set was fixed before.
        IntegrityError: the set does not follow from the roster, or a document in it does not verify.
    """
    exchange, ticket, charter = place.exchange, place.ticket, place.charter
    if not exchange.exists(sharers_key(ticket)):
        found = gather_sharers(exchange, ticket, roster, charter)
        _require_enough(place, found)
        create_or_read(exchange, sharers_key(ticket), found.to_json())
    fixed = read_sharers(exchange, ticket, roster)
    _require_enough(place, fixed)
    kept = kept_shares_key(roster)
    own = digest(place.store.read(kept)) if place.store.exists(kept) else ""
    if not own or fixed.shares.get(place.site) != own:
        _refuse(f"the sharers of round {ticket.round_number} do not hold the shares this site has dealt")
    place.policy.require_peers(fixed.sites)
    read_dealings(exchange, ticket, roster, fixed, charter)
    accept_sharers(place.store, ticket, roster=roster.digest, sharers=fixed.digest)
    return fixed


def _require_enough(place: Workplace, sharers: Sharers) -> None:
    least = place.charter.min_sum_sites
    if len(sharers.sites) < least:
        _refuse(
            f"{len(sharers.sites)} sites have dealt their shares for round {place.ticket.round_number}, "
            f"the charter asks for {least}"
        )


def _refuse(text: str) -> None:
    raise RefusedError(text, disclosed=text)
