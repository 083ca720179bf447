"""Calls the roster: reads the commitments, applies the quorum once, and fixes who takes part."""

from __future__ import annotations

from collections.abc import Mapping

from components.agreement.attempt import Attempt
from components.agreement.charter import COORDINATOR
from components.agreement.charter_book import ancestry
from components.agreement.commitment import Commitment, commitment_key, read_commitment
from components.agreement.model_sums import earlier_sums, largest_grouped, sits_out
from components.agreement.protections import UNMASK
from components.agreement.replaced_keys import charter_signing_key
from components.agreement.roster import Roster, roster_key
from components.artifacts.documents import digest
from components.artifacts.stores import create_or_read, reference
from components.encryption.masking.attempt_masks import SHARING, unusable_keys
from components.errors import IntegrityError, ObjectMissingError, QuorumNotReachedError, RefusedError
from components.execution.outcome import Outcome, disclosed_reason
from components.privacy.charging import follow_head


def call_roster(
    commitments: Mapping[str, str],
    reasons: Mapping[str, str],
    *,
    ticket: str,
    exchange_uri: str,
    keys_uri: str,
) -> Outcome:
    """Fixes the roster of a ticket, or refuses the round.

    Args:
        commitments: reference of each site's commitment, empty for a site left out.
        reasons: why, by site; empty for a site that takes part.
        ticket: reference of the ticket.
        exchange_uri: store that all parties read.
        keys_uri: folder of the public keys.

    Raises:
        QuorumNotReachedError: fewer sites committed than the charter asks for; no roster was written and
            the same round can be tried again.
    """
    attempt = Attempt.open(ticket, exchange_uri=exchange_uri, keys_uri=keys_uri)
    exchange, opened = attempt.exchange, attempt.ticket
    key = roster_key(opened)
    if not exchange.exists(key):
        roster = _gather(attempt, commitments, reasons)
        charter = attempt.charter
        if len(roster.commitments) < charter.min_sites:
            raise QuorumNotReachedError(
                f"round {opened.round_number}: {len(roster.commitments)} of {len(charter.sites)} sites can "
                f"take part, the quorum is {charter.min_sites}. {_listed(roster.left_out)}"
            )
        create_or_read(exchange, key, roster.signed(charter_signing_key(keys_uri, COORDINATOR, charter)))
    fixed = attempt.roster()
    return Outcome(
        reference=reference(exchange, key),
        manifest={"sites": list(fixed.sites), "left_out": dict(fixed.left_out)},
        metrics={"sites": float(len(fixed.sites))},
    )


def _gather(attempt: Attempt, commitments: Mapping[str, str], reasons: Mapping[str, str]) -> Roster:
    ticket = attempt.ticket
    found: dict[str, str] = {}
    made: dict[str, Commitment] = {}
    left_out: dict[str, str] = {}
    for site in attempt.charter.site_names:
        if not commitments.get(site):
            left_out[site] = reasons.get(site) or "failed: nothing was heard of the site"
            continue
        try:
            document = attempt.exchange.read(commitment_key(ticket, site), limit=1 << 16)
            made[site] = read_commitment(document, ticket, site, attempt.charter)
            # What a peer would refuse must not stand on the roster, or one site could hold up all others.
            follow_head(attempt.exchange, attempt.charter, ticket, made[site], site=site)
            found[site] = digest(document)
        except (IntegrityError, ObjectMissingError, RefusedError) as error:
            made.pop(site, None)
            left_out[site] = disclosed_reason(error)
    if attempt.charter.traits.masked:
        unusable = unusable_keys(made)
        if attempt.charter.traits.lifted_by == UNMASK:
            unusable = unusable_keys(made, SHARING) | unusable
        left_out |= unusable
        found = {site: named for site, named in found.items() if site not in unusable}
    earlier = earlier_sums(attempt.exchange, attempt.keys_uri, ticket, attempt.charter)
    left_out |= _former_sites(attempt, commitments)
    called = largest_grouped(earlier, found, attempt.charter)
    left_out |= {site: sits_out(earlier, attempt.charter) for site in found if site not in called}
    found = {site: found[site] for site in called}
    return Roster(charter=ticket.charter, ticket=ticket.digest, commitments=found, left_out=left_out)


def _former_sites(attempt: Attempt, commitments: Mapping[str, str]) -> dict[str, str]:
    """Sites of earlier editions that go on as if they had not left."""
    charter, ticket = attempt.charter, attempt.ticket
    named = {site for edition in ancestry(attempt.keys_uri, charter) for site in edition.sites}
    return {
        site: f"refused: edition {charter.edition} of the charter does not name it"
        for site in sorted(named - charter.sites.keys())
        if commitments.get(site) or attempt.exchange.exists(commitment_key(ticket, site))
    }


def _listed(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{site}: {reason}" for site, reason in sorted(left_out.items()))
