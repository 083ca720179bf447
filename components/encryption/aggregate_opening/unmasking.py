"""What lifts the masks of a sum: what its members have released or unmasked, or the end of the attempt."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from components.agreement.cutoff import Cutoff, end_attempt, shortfall_key
from components.agreement.protections import MASKED, RELEASE, UNMASK
from components.agreement.released import read_release
from components.agreement.roster import read_commitments
from components.encryption.ciphertext_sum import MemberSum
from components.encryption.contexts import public_context
from components.encryption.masking.attempt_masks import attempt_names, public_halves
from components.encryption.masking.holder_pads import member_pads
from components.encryption.masking.masks import Masks
from components.encryption.masking.recovered_masks import recovered_masks
from components.encryption.masking.release_lock import Release, open_releases
from components.encryption.protection import Opener, unmasking_opener
from components.errors import IntegrityError, ObjectExistsError, ObjectMissingError, QuorumNotReachedError
from components.execution import progress
from components.execution.outcome import disclosed_reason


def attempt_opener(summed: MemberSum, context: bytes) -> Opener:
    """The opener of one sum of masked updates, with what remains of their masks in it.

    Args:
        summed: verified.
        context: the key holder's secret context of the round; empty where there is none to have.

    Raises:
        QuorumNotReachedError: too few members have lifted their masks; the attempt is marked as over.
        CiphertextError: what they lifted is not of one set, or not what a site had dealt.
    """
    attempt = summed.attempt
    charter, public = attempt.charter, context
    lifted = {RELEASE: released_masks, UNMASK: unmasked_masks}
    masks = lifted[charter.traits.lifted_by](summed)
    if charter.protection == MASKED:
        masks = replace(masks, added=(*masks.added, *_holder_pads(summed, context)))
        public = public_context(attempt.keys_uri, attempt.certificate())
    return unmasking_opener(
        charter.protection,
        public,
        masks,
        sites=len(charter.sites),
        values_per_slot=charter.values_per_slot,
    )


def _holder_pads(summed: MemberSum, context: bytes) -> tuple[bytes, ...]:
    attempt = summed.attempt
    commitments = read_commitments(attempt.exchange, attempt.ticket, summed.roster, attempt.charter)
    members = {site: commitments[site] for site in summed.cutoff.members}
    names = attempt_names(attempt.ticket, summed.roster)
    return member_pads(context, public_halves(attempt.charter, members), names)


def released_masks(summed: MemberSum) -> Masks:
    """The masks that the members of a sum have released together; see `attempt_opener`."""
    releases = _releases(summed)
    return open_releases(
        attempt_names(summed.attempt.ticket, summed.roster),
        summed.cutoff.digest,
        summed.cutoff.members,
        summed.roster.sites,
        releases,
    )


def unmasked_masks(summed: MemberSum) -> Masks:
    """The masks that a quorum of the members of a sum has unmasked; see `attempt_opener`.

    What is wrong with single parts is told, as long as there are enough others.
    """
    attempt, cutoff = summed.attempt, summed.cutoff
    try:
        recovered = recovered_masks(attempt.exchange, attempt.ticket, attempt.charter, summed.roster, cutoff)
    except QuorumNotReachedError:
        end_attempt(attempt.exchange, attempt.ticket, cutoff)
        raise
    progress.tell(f"unmasked by {', '.join(recovered.unmasked)}")
    for remark in recovered.remarks:
        progress.tell(remark)
    return recovered.masks


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
