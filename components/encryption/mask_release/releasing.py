"""Releases what lifts a site's masks from the sum of one agreed set of sites, once.

The release is locked: its key needs a share from every other member of the same set, so nothing
opens unless all of them agree on it (README.md of the encryption domain, "The release rule").
"""

from __future__ import annotations

from components.agreement.cutoff import Cutoff, read_cutoff
from components.agreement.released import ReleasedMasks, release_key
from components.agreement.roster import Roster, read_commitments, read_roster, roster_key
from components.agreement.round_secrets import RoundSecrets, read_secrets
from components.agreement.site_records import accepted_roster
from components.agreement.workplace import Workplace
from components.artifacts.stores import create_or_read, reference
from components.encryption.masking.attempt_masks import attempt_names, private_half, public_halves
from components.encryption.masking.release_lock import release
from components.errors import ObjectMissingError, RefusedError
from components.execution.outcome import Outcome


def release_masks(place: Workplace) -> Outcome:
    """Publishes this site's release for the set that the cut-off fixed.

    A retry sends what was released first.

    Raises:
        RefusedError: the site did not seal under this roster, is not in the set, the set is too
            small or lacks a peer it insists on, another set was fixed before, it has released in
            another attempt of this round, it has erased the attempt's secrets, or the round goes back to
            a model whose earlier sums would show a few sites apart.
        IntegrityError: roster or cut-off are not what they should be.
    """
    place.require_accepted()
    ticket = place.ticket
    document = place.exchange.read(roster_key(ticket), limit=1 << 20)
    roster = read_roster(document, ticket, place.charter)
    cutoff = read_cutoff(place.exchange, ticket, roster)
    _check(place, roster, cutoff)
    kept = f"releases/{cutoff.digest}.json"
    # Before anything is remembered: a late call for an attempt that is over must not use up the round.
    secrets = None if place.store.exists(kept) else _secrets(place)
    place.accept_cutoff(cutoff)
    if secrets is None:
        signed = place.store.read(kept)
    else:
        signed = create_or_read(place.store, kept, _release(place, secrets, roster, cutoff))
    key = release_key(ticket, place.site)
    if create_or_read(place.exchange, key, signed) != signed:
        _refuse(f"another release lies where this site's belongs for round {ticket.round_number}")
    place.end_metrics()
    return Outcome(
        reference=reference(place.exchange, key),
        manifest={"sites": list(cutoff.members), "bytes": len(signed)},
        bytes_sent=len(signed),
    )


def _check(place: Workplace, roster: Roster, cutoff: Cutoff) -> None:
    number, charter = place.ticket.round_number, place.charter
    if accepted_roster(place.store, place.ticket) != roster.digest:
        _refuse(f"the site has not sealed under the roster of round {number}")
    if place.site not in cutoff.members:
        _refuse(f"the site is not in the sum of round {number}: its masks stay as they are")
    if len(cutoff.members) < charter.min_sum_sites:
        _refuse(
            f"the sum of round {number} has {len(cutoff.members)} sites, "
            f"the charter asks for {charter.min_sum_sites}"
        )
    place.policy.require_peers(cutoff.members)
    place.require_grouped(cutoff.members)


def _secrets(place: Workplace) -> RoundSecrets:
    try:
        return read_secrets(place.store, place.key, place.ticket.digest)
    except ObjectMissingError:
        number, attempt = place.ticket.round_number, place.ticket.attempt
        text = f"the site has erased its secrets of attempt {attempt} of round {number}: it releases nothing"
        raise RefusedError(text, disclosed=text) from None


def _release(place: Workplace, secrets: RoundSecrets, roster: Roster, cutoff: Cutoff) -> bytes:
    ticket, charter = place.ticket, place.charter
    commitments = read_commitments(place.exchange, ticket, roster, charter)
    made = release(
        attempt_names(ticket, roster),
        cutoff.digest,
        cutoff.members,
        private_half(place, secrets),
        public_halves(charter, commitments),
        secrets.seed,
    )
    return ReleasedMasks(
        charter=ticket.charter,
        ticket=ticket.digest,
        roster=roster.digest,
        cutoff=cutoff.digest,
        purpose=ticket.purpose,
        site=place.site,
        shares=dict(made.shares),
        locked=made.locked,
    ).signed(place.key)


def _refuse(text: str) -> None:
    raise RefusedError(text, disclosed=text)
