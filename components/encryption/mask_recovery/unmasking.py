"""Reveals a site's part of what lifts all masks from the sum of one agreed set, once (rounds 3 and 4).

For every sharer the site gives one key: of the share of its self key where the sharer is in the set, of
the share of its ephemeral private key where it was lost. Never both: the two would open the site's update.
What is given lies under a lock that a quorum of the set opens together (README.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from components.agreement.cutoff import Cutoff, read_cutoff, shortfall_key
from components.agreement.roster import Roster, read_commitments, read_roster, roster_key
from components.agreement.round_secrets import RoundSecrets, read_secrets
from components.agreement.sharers import Sharers, read_sharers
from components.agreement.site_records import accepted_roster, accepted_sharers
from components.agreement.unmasking import Unmasking, unmasking_key
from components.agreement.workplace import Workplace
from components.artifacts.stores import create_or_read, reference
from components.encryption.masking.attempt_masks import attempt_names, private_sharing_half, sharing_halves
from components.encryption.masking.pair_keys import AttemptNames
from components.encryption.masking.recovered_masks import agreed_sum
from components.encryption.masking.share_keys import SCALAR, SELF, share_key, sharing_secrets
from components.encryption.masking.unmask_lock import lock
from components.errors import IntegrityError, ObjectMissingError, RefusedError
from components.execution.outcome import Outcome


def unmask_sum(place: Workplace) -> Outcome:
    """Publishes this site's unmasking for the set that the cut-off fixed.

    A retry sends what was published first.

    Raises:
        RefusedError: the site did not seal under this roster and these sharers, is not in the set, the set
            is too small or lacks a peer it insists on, another set was fixed before, it has unmasked in
            another attempt of this round, the attempt is over, or its secrets are erased.
        IntegrityError: roster, sharers or cut-off are not what they should be.
    """
    place.require_accepted()
    ticket = place.ticket
    document = place.exchange.read(roster_key(ticket), limit=1 << 20)
    roster = read_roster(document, ticket, place.charter)
    sharers = read_sharers(place.exchange, ticket, roster)
    cutoff = read_cutoff(place.exchange, ticket, roster)
    _check(place, roster, sharers, cutoff)
    kept = f"unmaskings/{cutoff.digest}.json"
    # Before anything is remembered: a late call for an attempt that is over must not use up the round.
    secrets = None if place.store.exists(kept) else _secrets(place)
    place.accept_cutoff(cutoff)
    if secrets is None:
        signed = place.store.read(kept)
    else:
        signed = create_or_read(place.store, kept, _unmask(place, secrets, roster, sharers, cutoff))
    key = unmasking_key(ticket, place.site)
    if create_or_read(place.exchange, key, signed) != signed:
        _refuse(f"another unmasking lies where this site's belongs for round {ticket.round_number}")
    place.end_metrics()
    return Outcome(
        reference=reference(place.exchange, key),
        manifest={"sites": list(cutoff.members), "bytes": len(signed)},
        bytes_sent=len(signed),
    )


def revealed_keys(
    names: AttemptNames,
    cutoff: Cutoff,
    site: str,
    secrets: Mapping[str, bytes],
    sharers: Sharers,
) -> dict[str, bytes]:
    """One key for every sharer, and with it one of the two shares that the sharer has dealt to this site.

    Args:
        names: what the keys are for.
        cutoff: the one set of sites; whether a sharer is in it decides which share is given.
        site: who reveals.
        secrets: its Z with everybody on the roster.
        sharers: who have dealt.
    """
    return {
        dealer: share_key(
            secrets[dealer],
            SELF if dealer in cutoff.members else SCALAR,
            names,
            dealer=dealer,
            receiver=site,
        )
        for dealer in sharers.sites
    }


def _check(place: Workplace, roster: Roster, sharers: Sharers, cutoff: Cutoff) -> None:
    number, charter = place.ticket.round_number, place.charter
    if accepted_roster(place.store, place.ticket) != roster.digest:
        _refuse(f"the site has not sealed under the roster of round {number}")
    if accepted_sharers(place.store, roster.digest) != sharers.digest:
        _refuse(f"the site has not sealed among the sharers of round {number}")
    if not set(cutoff.members) <= set(sharers.sites):
        raise IntegrityError(f"the cut-off in {place.ticket.folder} does not follow from its sharers")
    if place.site not in cutoff.members:
        _refuse(f"the site is not in the sum of round {number}: its masks stay as they are")
    if len(cutoff.members) < charter.min_sum_sites:
        _refuse(
            f"the sum of round {number} has {len(cutoff.members)} sites, "
            f"the charter asks for {charter.min_sum_sites}"
        )
    place.policy.require_peers(cutoff.members)
    place.require_grouped(cutoff.members)
    if place.exchange.exists(shortfall_key(place.ticket)):
        _refuse(f"round {number} is void: nothing of it is unmasked any more")


def _secrets(place: Workplace) -> RoundSecrets:
    try:
        return read_secrets(place.store, place.key, place.ticket.digest)
    except ObjectMissingError:
        number, attempt = place.ticket.round_number, place.ticket.attempt
        text = f"the site has erased its secrets of attempt {attempt} of round {number}: it unmasks nothing"
        raise RefusedError(text, disclosed=text) from None


def _unmask(place: Workplace, drawn: RoundSecrets, roster: Roster, sharers: Sharers, cutoff: Cutoff) -> bytes:
    ticket, charter, site = place.ticket, place.charter, place.site
    commitments = read_commitments(place.exchange, ticket, roster, charter)
    secrets = sharing_secrets(private_sharing_half(place, drawn), sharing_halves(charter, commitments))
    revealed = revealed_keys(attempt_names(ticket, roster), cutoff, site, secrets, sharers)
    locked = lock(agreed_sum(ticket, charter, roster, sharers, cutoff), site, secrets, revealed)
    return Unmasking(
        charter=ticket.charter,
        ticket=ticket.digest,
        roster=roster.digest,
        sharers=sharers.digest,
        cutoff=cutoff.digest,
        purpose=ticket.purpose,
        site=site,
        **asdict(locked),
    ).signed(place.key)


def _refuse(text: str) -> None:
    raise RefusedError(text, disclosed=text)
