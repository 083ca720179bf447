"""Opens the sum of one agreed set of sites, re-added by the key holder himself (Eq. 6)."""

from __future__ import annotations

import contextlib
import tempfile
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from components.agreement.attempt import Attempt
from components.agreement.charter import KEY_HOLDER
from components.agreement.cutoff import end_attempt, shortfall_key
from components.agreement.model_store import model_shapes
from components.agreement.model_sums import earlier_sums, require_grouped
from components.agreement.protections import NONE
from components.agreement.receipt import (
    MAX_RECEIPT_BYTES,
    Receipt,
    publish_aggregate,
    read_receipt,
    receipt_key,
    require_aggregate,
)
from components.agreement.replaced_keys import charter_signing_key
from components.agreement.roster import read_commitments
from components.agreement.ticket import UPDATE
from components.agreement.void import is_void
from components.artifacts.background_hash import BackgroundHash
from components.artifacts.documents import canonical_json
from components.artifacts.stores import create_or_read, key_of, open_store, reference
from components.encryption.aggregate_opening.unmasking import attempt_opener
from components.encryption.ciphertext_sum import MemberSum, attempt_summer, sealed_length
from components.encryption.contexts import secret_context
from components.encryption.protection import Opener, opener
from components.encryption.secret_keys.key_rotation import rotate_when_due
from components.encryption.update_vector import from_sum
from components.errors import (
    CiphertextError,
    DigestMismatchError,
    IntegrityError,
    QuorumNotReachedError,
    RefusedError,
    SignatureError,
    UsageError,
)
from components.execution.outcome import Outcome
from components.privacy.charging import follow_heads


def open_aggregate(
    sealed_sum: str, *, ticket: str, store_uri: str, exchange_uri: str, keys_uri: str
) -> Outcome:
    """Decrypts [Σ nᵢ·Δwᵢ, Σ nᵢ] and publishes it with a signed receipt.

    What is decrypted is never what somebody handed over: the key holder verifies every member's
    manifest and adds the sealed updates again, and the aggregator's sum must be the same bytes.

    Args:
        sealed_sum: reference of the aggregator's sum.
        ticket: reference of the ticket.
        store_uri: the key holder's own store, where it remembers what it has opened.
        exchange_uri: store that all parties read.
        keys_uri: folder of the charters.

    Raises:
        QuorumNotReachedError: the cut-off holds too few sites, or a member has not released; the
            attempt is marked so that the next run goes on after it.
        DigestMismatchError: the aggregator's sum is not the sum of its members.
        RefusedError: the privacy ledger that a site shows does not go on from what it showed before, or
            the round goes back to a model whose earlier sums would show a few sites apart; the attempt is
            marked too.
        IntegrityError: a ticket, roster, manifest, release or ciphertext is not what it should be,
            or another set of sites was opened for this ticket before.
    """
    attempt = _attempt(ticket, exchange_uri, keys_uri)
    exchange, folder = attempt.exchange, attempt.ticket.folder
    if not exchange.exists(receipt_key(folder)):
        _require_not_over(attempt)
        receipt = _open(attempt, sealed_sum, store_uri)
        _require_not_over(attempt)
        document = receipt.signed(charter_signing_key(keys_uri, KEY_HOLDER, attempt.charter))
        create_or_read(exchange, receipt_key(folder), document)
    document = exchange.read(receipt_key(folder), limit=MAX_RECEIPT_BYTES)
    given = read_receipt(document, attempt.ticket, attempt.charter)
    require_aggregate(exchange, folder, given)
    if attempt.ticket.purpose == UPDATE:
        rotate_when_due(attempt)
    return Outcome(
        reference=reference(exchange, receipt_key(folder)),
        manifest={"sites": list(given.members), "sealed_sum": given.sealed_sum, "aggregate": given.aggregate},
        metrics={"sites": float(len(given.members))},
    )


def _attempt(ticket: str, exchange_uri: str, keys_uri: str) -> Attempt:
    """The attempt, under the charter the key holder has pinned; under another if it is opened already."""
    try:
        return Attempt.open(ticket, exchange_uri=exchange_uri, keys_uri=keys_uri, pinned_by=KEY_HOLDER)
    except SignatureError:
        with contextlib.suppress(SignatureError):
            earlier = Attempt.open(ticket, exchange_uri=exchange_uri, keys_uri=keys_uri)
            if earlier.exchange.exists(receipt_key(earlier.ticket.folder)):
                return earlier
        raise


def _open(attempt: Attempt, sealed_sum: str, store_uri: str) -> Receipt:
    """Verifies, adds, compares, decrypts and publishes; the receipt says of what."""
    exchange, ticket = attempt.exchange, attempt.ticket
    roster = attempt.roster()
    summed = MemberSum(
        attempt=attempt, roster=roster, cutoff=attempt.cutoff(roster), length=sealed_length(attempt)
    )
    _require_quorum(summed)
    commitments = read_commitments(exchange, ticket, roster, attempt.charter)
    earlier = earlier_sums(exchange, attempt.keys_uri, ticket, attempt.charter)
    try:
        require_grouped(earlier, summed.cutoff.members, attempt.charter)
        follow_heads(open_store(store_uri), attempt.charter, ticket, commitments)
    except RefusedError:
        end_attempt(exchange, ticket, summed.cutoff)
        raise
    try:
        added, ciphertexts, values = _summed(summed, sealed_sum, store_uri)
    except CiphertextError:
        # What members signed does not open, and never will: the next round need not wait for it.
        end_attempt(exchange, ticket, summed.cutoff)
        raise
    aggregate = publish_aggregate(exchange, ticket.folder, values)
    certified = attempt.certificate()
    return Receipt(
        charter=ticket.charter,
        ticket=ticket.digest,
        roster=roster.digest,
        cutoff=summed.cutoff.digest,
        purpose=ticket.purpose,
        certificate=certified.digest if certified else "",
        ciphertexts=ciphertexts,
        sealed_sum=added,
        aggregate=aggregate,
        previous=ticket.previous,
    )


def _summed(
    summed: MemberSum, sealed_sum: str, store_uri: str
) -> tuple[str, dict[str, str], NDArray[np.float64]]:
    """SHA-256 of the sum added here, that of each member's sealed update, and [Σ n·Δw, Σ n]."""
    charter = summed.attempt.charter
    ciphertexts = {site: summed.manifest(site).blob for site in summed.cutoff.members}
    # The child in which it decrypts is forked while this process is small, and sets up meanwhile.
    opening = _opener(summed)
    with tempfile.TemporaryFile() as total:
        added = _add_again(summed, sealed_sum, cast(BinaryIO, total))
        _record(store_uri, summed)
        total.seek(0)
        opened = _opened(summed, opening, cast(BinaryIO, total))
    ticket = summed.attempt.ticket
    shapes = model_shapes(summed.attempt.exchange, ticket.model)
    number, purpose = ticket.round_number, ticket.purpose
    values = from_sum(charter, opened, round_number=number, shapes=shapes, purpose=purpose)
    return added, ciphertexts, values


def _require_not_over(attempt: Attempt) -> None:
    """Passes an attempt that nobody has given up: the next round may have begun from the same model."""
    ticket, exchange = attempt.ticket, attempt.exchange
    if exchange.exists(shortfall_key(ticket)) or is_void(exchange, ticket, attempt.charter):
        raise QuorumNotReachedError(
            f"round {ticket.round_number} is void: nothing of it is opened any more. "
            "Run again: the next round starts from the same model"
        )


def _require_quorum(summed: MemberSum) -> None:
    charter, number = summed.attempt.charter, summed.attempt.ticket.round_number
    sizes = {
        "roster": (len(summed.roster.sites), charter.min_sites),
        "sum": (len(summed.cutoff.members), charter.min_sum_sites),
    }
    for name, (size, least) in sizes.items():
        if size < least:
            end_attempt(summed.attempt.exchange, summed.attempt.ticket, summed.cutoff)
            raise QuorumNotReachedError(
                f"round {number}: a {name} of {size} sites is not opened, the charter asks for {least}"
            )


def _add_again(summed: MemberSum, sealed_sum: str, total: BinaryIO) -> str:
    """Writes the sum to `total` and returns its SHA-256, if the aggregator's is the same bytes."""
    exchange, added, same = summed.attempt.exchange, BackgroundHash(), True
    with exchange.open(key_of(exchange, sealed_sum)) as theirs:
        for block in summed.add(attempt_summer(summed.attempt)):
            total.write(block)
            added.update(block)
            same = same and _next(theirs, len(block)) == block
        same = same and not theirs.read(1)
    if not same:
        raise DigestMismatchError(
            f"the sum in {summed.attempt.ticket.folder} is not the sum of its members: "
            "the aggregator altered it; it was not opened. Remove it and run again: it is added anew"
        )
    return added.hexdigest()


def _next(source: BinaryIO, size: int) -> bytes:
    parts: list[bytes] = []
    while size and (part := source.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _record(store_uri: str, summed: MemberSum) -> None:
    """Remembers, before anything is decrypted, which set is opened for a ticket: one, ever."""
    ticket = summed.attempt.ticket
    opened = canonical_json({"roster": summed.roster.digest, "cutoff": summed.cutoff.digest})
    key = f"opened/{ticket.digest}-{ticket.purpose}.json"
    if create_or_read(open_store(store_uri), key, opened) != opened:
        raise IntegrityError(
            f"another set of sites was opened for round {ticket.round_number} before: refused"
        )


def _opener(summed: MemberSum) -> Opener:
    charter, context = summed.attempt.charter, secret_context(summed.attempt)
    if charter.traits.masked:
        return attempt_opener(summed, context)
    return opener(charter.protection, context)


def _opened(summed: MemberSum, opening: Opener, total: BinaryIO) -> NDArray[Any]:
    """The sum in the clear; what the system did to the child that decrypts is no fault of a member."""
    number = summed.attempt.ticket.round_number
    try:
        return opening.open(total, summed.length)
    except MemoryError:
        raise UsageError(
            f"memory ran out while the sum of round {number} was opened: "
            "give the key holder's step more and run again, nothing is lost"
        ) from None
    except CiphertextError:
        if summed.attempt.charter.protection == NONE:
            raise
        # One bit: whoever could learn why a sum does not open could ask for the key.
        raise CiphertextError(f"the sum of round {number} does not open: refused") from None
