"""Fixes who is in the sum and adds their sealed updates (Eq. 2 and 6, on ciphertexts)."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

from components.agreement.attempt import Attempt
from components.agreement.cutoff import Cutoff, cutoff_key, shortfall_key, sum_key
from components.agreement.model_sums import EarlierSum, earlier_sums, largest_grouped, sits_out
from components.agreement.roster import Roster
from components.artifacts.stores import create_or_read, reference
from components.encryption.ciphertext_sum import (
    MemberSum,
    attempt_summer,
    check_blob,
    checked_manifest,
    sealed_length,
)
from components.encryption.protection import Summer
from components.errors import IntegrityError, ObjectExistsError, ObjectMissingError, QuorumNotReachedError
from components.execution.outcome import Outcome, disclosed_reason

_BLOCK = 1 << 20


def aggregate_updates(
    sealed: Mapping[str, str],
    reasons: Mapping[str, str],
    *,
    ticket: str,
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
        exchange_uri: store that all parties read.
        keys_uri: folder of the public keys and the public context.

    Raises:
        QuorumNotReachedError: too few sealed; the attempt is marked so that the next run opens a
            new one.
    """
    attempt = Attempt.open(ticket, exchange_uri=exchange_uri, keys_uri=keys_uri)
    exchange, opened, roster = attempt.exchange, attempt.ticket, attempt.roster()
    adding = Adding(
        attempt=attempt,
        roster=roster,
        adder=attempt_summer(attempt),
        length=sealed_length(attempt),
        earlier=earlier_sums(exchange, keys_uri, opened, attempt.charter),
    )
    with tempfile.TemporaryFile() as total:
        if not exchange.exists(cutoff_key(opened)):
            cutoff = cut_off(adding, sealed, reasons, cast(BinaryIO, total))
            _require_quorum(attempt, roster, cutoff)
            create_or_read(exchange, cutoff_key(opened), cutoff.to_json())
            fixed = attempt.cutoff(roster)
            added = fixed.members if fixed.members == cutoff.members else ()
        else:
            fixed, added = attempt.cutoff(roster), ()
        if not exchange.exists(sum_key(opened)):
            if not added:
                adding.add(fixed.members, cast(BinaryIO, total))
            with contextlib.suppress(ObjectExistsError):
                exchange.create_from(sum_key(opened), _chunks(cast(BinaryIO, total)))
    received = sum(checked_manifest(attempt, roster, site, adding.length).size for site in fixed.members)
    size = exchange.size(sum_key(opened))
    return Outcome(
        reference=reference(exchange, sum_key(opened)),
        manifest={"sites": list(fixed.members), "bytes_received": received, "bytes": size},
        metrics={"sites": float(len(fixed.members)), "bytes_received": float(received)},
        bytes_sent=size,
    )


@dataclass(frozen=True, kw_only=True)
class Adding:
    """What adding takes: the attempt, its roster, the adder, an update's length, sums of the same model."""

    attempt: Attempt
    roster: Roster
    adder: Summer
    length: int
    earlier: Sequence[EarlierSum]

    def add(self, members: Sequence[str], total: BinaryIO) -> None:
        """Writes the sum of these sites to `total`, which is emptied first; each site is verified."""
        cutoff = Cutoff(roster=self.roster.digest, members=tuple(members), left_out={})
        summed = MemberSum(attempt=self.attempt, roster=self.roster, cutoff=cutoff, length=self.length)
        total.seek(0)
        total.truncate()
        for block in summed.add(self.adder):
            total.write(block)

    def problem(self, site: str) -> str:
        """Why a site cannot be in the sum; empty where it can."""
        try:
            manifest = checked_manifest(self.attempt, self.roster, site, self.length)
            check_blob(self.attempt, manifest, self.adder)
        except (IntegrityError, ObjectMissingError) as error:
            return disclosed_reason(error)
        return ""


def cut_off(adding: Adding, sealed: Mapping[str, str], reasons: Mapping[str, str], total: BinaryIO) -> Cutoff:
    """Who is in the sum. The sum is in `total` then: sealed updates are verified as they are added.

    A site whose bytes are not those of this round, whatever is wrong with them, is left out with a reason.

    Args:
        adding: what to add with.
        sealed: reference of each site's manifest, empty for a site left out.
        reasons: why, by site.
        total: takes the sum.
    """
    left_out = {
        site: reasons.get(site) or "failed: no sealed update"
        for site in adding.roster.sites
        if not sealed.get(site)
    }
    may_seal = adding.attempt.sealing_sites(adding.roster)
    for site in set(adding.roster.sites) - set(may_seal) - set(left_out):
        left_out[site] = "refused: it sealed without having dealt its shares"
    members = _grouped(adding, left_out)
    try:
        if members:
            adding.add(members, total)
    except (IntegrityError, ObjectMissingError):
        problems = {site: adding.problem(site) for site in members}
        left_out |= {site: problem for site, problem in problems.items() if problem}
        members = _grouped(adding, left_out)
        if members:
            adding.add(members, total)
    return Cutoff(roster=adding.roster.digest, members=tuple(members), left_out=left_out)


def _grouped(adding: Adding, left_out: dict[str, str]) -> list[str]:
    """Who of the roster is not left out; whom an earlier sum of the same model would show is left out too."""
    available = [site for site in adding.roster.sites if site not in left_out]
    charter = adding.attempt.charter
    members = largest_grouped(adding.earlier, available, charter)
    left_out |= {site: sits_out(adding.earlier, charter) for site in available if site not in members}
    return list(members)


def _require_quorum(attempt: Attempt, roster: Roster, cutoff: Cutoff) -> None:
    """Marks the attempt as over where too few have sealed."""
    exchange, opened, least = attempt.exchange, attempt.ticket, attempt.charter.min_sum_sites
    if len(cutoff.members) >= least:
        return
    with contextlib.suppress(ObjectExistsError):
        exchange.create(shortfall_key(opened), cutoff.to_json())
    left = "; ".join(f"{site}: {reason}" for site, reason in sorted(cutoff.left_out.items()))
    raise QuorumNotReachedError(
        f"round {opened.round_number}: {len(cutoff.members)} of {len(roster.sites)} sites on the "
        f"roster sealed, the quorum is {least}. {left}. Run again: a new attempt is opened"
    )


def _chunks(total: BinaryIO) -> Iterator[bytes]:
    total.seek(0)
    while block := total.read(_BLOCK):
        yield block
