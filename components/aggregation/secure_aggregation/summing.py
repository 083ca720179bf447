"""Fixes who is in the sum and adds their sealed updates (Eq. 2 and 6, on ciphertexts)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from components.agreement.attempt import Attempt
from components.agreement.cutoff import Cutoff, cutoff_key, shortfall_key, sum_key
from components.agreement.roster import Roster
from components.artifacts.stores import create_or_read, reference
from components.encryption.ciphertext_sum import checked_blob, sealed_length, sum_members
from components.encryption.contexts import public_context
from components.encryption.protection import Summer, summer
from components.errors import IntegrityError, ObjectExistsError, ObjectMissingError, QuorumNotReachedError
from components.execution.outcome import Outcome, disclosed_reason


def aggregate_updates(
    sealed: Mapping[str, str],
    reasons: Mapping[str, str],
    *,
    ticket: str,
    min_sites: int,
    exchange_uri: str,
    keys_uri: str,
) -> Outcome:
    """Adds the sealed updates of all sites whose signed manifest verifies.

    Holds public keys and the public context only. Every signature, digest and size is checked
    before a sealed byte is parsed.

    Args:
        sealed: reference of each site's manifest, empty for a site left out.
        reasons: why, by site.
        ticket: reference of the ticket.
        min_sites: the quorum.
        exchange_uri: store that all parties read.
        keys_uri: folder of the public keys and the public context.

    Raises:
        QuorumNotReachedError: too few sealed; the attempt is marked so that the next run opens a
            new one.
    """
    attempt = Attempt.open(ticket, exchange_uri=exchange_uri, keys_uri=keys_uri)
    exchange, opened, roster = attempt.exchange, attempt.ticket, attempt.roster()
    adder = summer(opened.protection, public_context(keys_uri, opened.protection, attempt.parties))
    if not exchange.exists(cutoff_key(opened)):
        cutoff = _cut_off(attempt, roster, sealed, reasons, adder)
        if len(cutoff.members) < min_sites:
            with contextlib.suppress(ObjectExistsError):
                exchange.create(shortfall_key(opened), cutoff.to_json())
            left = "; ".join(f"{site}: {reason}" for site, reason in sorted(cutoff.left_out.items()))
            raise QuorumNotReachedError(
                f"round {opened.round_number}: {len(cutoff.members)} of {len(roster.sites)} sites on the "
                f"roster sealed, the quorum is {min_sites}. {left}. Run again: a new attempt is opened"
            )
        create_or_read(exchange, cutoff_key(opened), cutoff.to_json())
    fixed = attempt.cutoff(roster)
    total, received = sum_members(attempt, roster, fixed, adder)
    with contextlib.suppress(ObjectExistsError):
        exchange.create(sum_key(opened), total)
    return Outcome(
        reference=reference(exchange, sum_key(opened)),
        manifest={"sites": list(fixed.members), "bytes_received": received, "bytes": len(total)},
        metrics={"sites": float(len(fixed.members)), "bytes_received": float(received)},
        bytes_sent=len(total),
    )


def _cut_off(
    attempt: Attempt,
    roster: Roster,
    sealed: Mapping[str, str],
    reasons: Mapping[str, str],
    adder: Summer,
) -> Cutoff:
    members: list[str] = []
    left_out: dict[str, str] = {}
    length = sealed_length(attempt)
    for site in roster.sites:
        if not sealed.get(site):
            left_out[site] = reasons.get(site) or "failed: no sealed update"
            continue
        try:
            checked_blob(attempt, roster, site, adder, length)
        except (IntegrityError, ObjectMissingError) as error:
            left_out[site] = disclosed_reason(error)
        else:
            members.append(site)
    return Cutoff(roster=roster.digest, members=tuple(members), left_out=left_out)
