"""What lifts the masks of a sum: the releases of all its members, or the end of the attempt."""

from __future__ import annotations

import contextlib

from components.agreement.cutoff import Cutoff, shortfall_key
from components.agreement.released import read_release
from components.encryption.attempt_masks import attempt_names
from components.encryption.ciphertext_sum import MemberSum
from components.encryption.masks import Masks
from components.encryption.release_lock import Release, open_releases
from components.errors import IntegrityError, ObjectExistsError, ObjectMissingError, QuorumNotReachedError
from components.execution.outcome import disclosed_reason


def released_masks(summed: MemberSum) -> Masks:
    """The masks that the members of a sum have released together.

    Raises:
        QuorumNotReachedError: a member has not released; the attempt is marked as over.
        CiphertextError: the members did not release for the same set.
    """
    releases = _releases(summed)
    return open_releases(
        attempt_names(summed.attempt.ticket, summed.roster),
        summed.cutoff.digest,
        summed.cutoff.members,
        summed.roster.sites,
        releases,
    )


def _releases(summed: MemberSum) -> dict[str, Release]:
    attempt, cutoff = summed.attempt, summed.cutoff
    found: dict[str, Release] = {}
    lost: dict[str, str] = {}
    for site in cutoff.members:
        try:
            each = read_release(attempt.exchange, attempt.ticket, cutoff, site, attempt.charter)
            found[site] = Release(site=site, shares=each.shares, locked=each.locked)
        except (IntegrityError, ObjectMissingError) as error:
            lost[site] = disclosed_reason(error)
    if lost:
        ended = Cutoff(roster=cutoff.roster, members=tuple(found), left_out=lost)
        with contextlib.suppress(ObjectExistsError):
            attempt.exchange.create(shortfall_key(attempt.ticket), ended.to_json())
        raise QuorumNotReachedError(
            f"round {attempt.ticket.round_number} is void: {', '.join(sorted(lost))} sealed but did not "
            "release, so nothing can be opened and nothing was. "
            "Run again: the next round starts from the same model"
        )
    return found
