"""What is left of all masks in the sum of one set, put together from what its members have revealed.

Everybody who reads the exchange can do this: under `smc` there is no other secret. What each sharer has
dealt is compared with what it is bound to, so a wrong dealing is found and its dealer named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.agreement.charter import Charter
from components.agreement.cutoff import Cutoff
from components.agreement.dealt_shares import DealtShares
from components.agreement.roster import Roster, read_commitments
from components.agreement.sharers import Sharers, read_dealings, read_sharers
from components.agreement.ticket import Ticket
from components.agreement.unmasking import read_unmasking
from components.artifacts.stores import Store
from components.encryption.masking import shamir
from components.encryption.masking.attempt_masks import attempt_names, public_halves
from components.encryption.masking.masks import Masks
from components.encryption.masking.pair_keys import AttemptNames, PublicHalf
from components.encryption.masking.recoverable_pads import remaining_masks
from components.encryption.masking.share_keys import SCALAR, SELF, Kind, opened_share, points_of, self_digest
from components.encryption.masking.unmask_lock import AgreedSum, Locked, open_locks
from components.errors import CiphertextError, IntegrityError, ObjectMissingError, QuorumNotReachedError
from components.execution.outcome import disclosed_reason


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """How a set was unmasked.

    Attributes:
        masks: to take off the sum.
        unmasked: members whose part was used.
        remarks: what was wrong with the others' and with single shares, one line each.
    """

    masks: Masks
    unmasked: tuple[str, ...]
    remarks: tuple[str, ...]


def agreed_sum(
    ticket: Ticket, charter: Charter, roster: Roster, sharers: Sharers, cutoff: Cutoff
) -> AgreedSum:
    """What the members of a set unmask for."""
    points = points_of(roster.sites)
    return AgreedSum(
        names=attempt_names(ticket, roster),
        sharers=sharers.digest,
        cutoff=cutoff.digest,
        points={site: points[site] for site in cutoff.members},
        threshold=charter.min_sum_sites,
    )


def recovered_masks(
    exchange: Store, ticket: Ticket, charter: Charter, roster: Roster, cutoff: Cutoff
) -> Recovered:
    """The masks left in the sum of a cut-off.

    Args:
        exchange: where the documents of the attempt lie, or their proof.
        ticket: verified.
        charter: its own.
        roster: verified.
        cutoff: follows from the roster.

    Raises:
        QuorumNotReachedError: fewer members have unmasked than the charter's `min_sum_sites`.
        CiphertextError: a sharer has dealt what is not what it is bound to.
        IntegrityError: sharers, commitments or shares are not what they should be.
    """
    sharers = read_sharers(exchange, ticket, roster)
    if not set(cutoff.members) <= set(sharers.sites):
        raise IntegrityError(f"the cut-off in {ticket.folder} does not follow from its sharers")
    dealings = read_dealings(exchange, ticket, roster, sharers, charter)
    commitments = read_commitments(exchange, ticket, roster, charter)
    halves = {half.name: half for half in public_halves(charter, commitments)}
    agreed = agreed_sum(ticket, charter, roster, sharers, cutoff)
    documents, left_out = _documents(exchange, ticket, charter, sharers, cutoff)
    # Where too few have unmasked, no lock opens: that says nothing about whose lock it is.
    _require_quorum(agreed, ticket, left_out)
    revealed, shut = open_locks(agreed, sharers.sites, documents)
    left_out |= shut
    _require_quorum(agreed, ticket, left_out)
    remarks = _remarks(left_out)
    selves: dict[str, bytes] = {}
    scalars: dict[str, X25519PrivateKey] = {}
    points = points_of(roster.sites)
    for dealer, dealt in dealings.items():
        kind = SELF if dealer in cutoff.members else SCALAR
        keys = {points[site]: (site, each[dealer]) for site, each in revealed.items()}
        shares, amiss = _opened_shares(dealt, kind, agreed.names, keys)
        remarks += amiss
        secret = _combined(dealt, agreed.threshold, shares, amiss)
        if kind == SELF:
            selves[dealer] = _checked_self_key(dealt, agreed.names, secret)
        else:
            scalars[dealer] = _checked_scalar(dealt, halves[dealer], secret)
    masks = remaining_masks(agreed.names, halves, selves, scalars)
    return Recovered(masks=masks, unmasked=tuple(revealed), remarks=tuple(remarks))


def _require_quorum(agreed: AgreedSum, ticket: Ticket, left_out: Mapping[str, str]) -> None:
    members, there = len(agreed.points), len(agreed.points) - len(left_out)
    if there < agreed.threshold:
        raise QuorumNotReachedError(
            f"round {ticket.round_number} is void: {there} of {members} sites in the sum have unmasked it, "
            f"the quorum is {agreed.threshold}. {'; '.join(_remarks(left_out))}. "
            "Nothing was opened. Run again: the next round starts from the same model"
        )


def _remarks(left_out: Mapping[str, str]) -> list[str]:
    return [f"{site} has not unmasked: {reason}" for site, reason in sorted(left_out.items())]


def _documents(
    exchange: Store, ticket: Ticket, charter: Charter, sharers: Sharers, cutoff: Cutoff
) -> tuple[dict[str, Locked], dict[str, str]]:
    """What members have published, and why that of others is not there."""
    found: dict[str, Locked] = {}
    left_out: dict[str, str] = {}
    for site in cutoff.members:
        try:
            each = read_unmasking(exchange, ticket, sharers, cutoff, site, charter=charter)
        except (IntegrityError, ObjectMissingError) as error:
            left_out[site] = disclosed_reason(error)
            continue
        found[site] = Locked(
            tokens=each.tokens, lock_shares=each.lock_shares, own_share=each.own_share, locked=each.locked
        )
    return found, left_out


def _opened_shares(
    dealt: DealtShares, kind: Kind, names: AttemptNames, keys: Mapping[int, tuple[str, bytes]]
) -> tuple[dict[int, bytes], list[str]]:
    """A sharer's shares that open, by point, and what was wrong with others."""
    shares: dict[int, bytes] = {}
    amiss: list[str] = []
    for point, (site, key) in keys.items():
        try:
            shares[point] = opened_share(key, kind, names, dealt, site)
        except IntegrityError as error:
            amiss.append(str(error))
    return shares, amiss


def _combined(dealt: DealtShares, threshold: int, shares: Mapping[int, bytes], amiss: Sequence[str]) -> bytes:
    """What a sharer has dealt, from the first shares: any others of an honest one would give the same."""
    if len(shares) < threshold:
        raise CiphertextError(
            f"{len(shares)} of the shares that {dealt.site} dealt can be opened, {threshold} are needed: "
            f"nothing was opened, run again. {'; '.join(amiss)}"
        )
    try:
        return shamir.combine(dict(list(shares.items())[:threshold]))
    except ValueError:
        raise _wrong(dealt) from None


def _checked_self_key(dealt: DealtShares, names: AttemptNames, secret: bytes) -> bytes:
    if self_digest(names, dealt.site, secret) != dealt.self_digest:
        raise _wrong(dealt)
    return secret


def _checked_scalar(dealt: DealtShares, half: PublicHalf, secret: bytes) -> X25519PrivateKey:
    scalar = X25519PrivateKey.from_private_bytes(secret)
    if scalar.public_key().public_bytes_raw() != half.ephemeral:
        raise _wrong(dealt)
    return scalar


def _wrong(dealt: DealtShares) -> CiphertextError:
    return CiphertextError(
        f"the shares that {dealt.site} dealt are not of the key it is bound to: nothing was opened, "
        f"leave {dealt.site} out and run again"
    )
