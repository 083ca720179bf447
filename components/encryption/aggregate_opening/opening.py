"""Opens the sum of one agreed set of sites, re-added by the key holder himself (Eq. 6)."""

from __future__ import annotations

import numpy as np

from components.agreement.attempt import Attempt
from components.agreement.cutoff import Cutoff
from components.agreement.parties import (
    KEY_HOLDER,
    Parties,
    check_private,
    load_signing_key,
    private_folder,
)
from components.agreement.receipt import Receipt, aggregate_key, read_aggregate, read_receipt, receipt_key
from components.agreement.roster import Roster
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import create_or_read, key_of, reference
from components.encryption.ciphertext_sum import sealed_length, sum_members
from components.encryption.contexts import public_context
from components.encryption.protection import opener, summer
from components.errors import DigestMismatchError, QuorumNotReachedError
from components.execution.outcome import Outcome


def open_aggregate(
    sealed_sum: str, *, ticket: str, min_sites: int, exchange_uri: str, keys_uri: str
) -> Outcome:
    """Decrypts [Σ nᵢ·Δwᵢ, Σ nᵢ] and publishes it with a signed receipt.

    What is decrypted is never what somebody handed over: the key holder verifies every member's
    manifest and adds the sealed updates again, and the aggregator's sum must be the same bytes.

    Args:
        sealed_sum: reference of the aggregator's sum.
        ticket: reference of the ticket.
        min_sites: smallest set whose sum is opened.
        exchange_uri: store that all parties read.
        keys_uri: folder of the public keys and the public context.

    Raises:
        QuorumNotReachedError: the cut-off holds fewer sites.
        DigestMismatchError: the aggregator's sum is not the sum of its members.
        IntegrityError: a ticket, roster, manifest or ciphertext is not what it should be.
    """
    attempt = Attempt.open(ticket, exchange_uri=exchange_uri, keys_uri=keys_uri)
    exchange, opened, roster = attempt.exchange, attempt.ticket, attempt.roster()
    cutoff = attempt.cutoff(roster)
    if len(cutoff.members) < min_sites:
        raise QuorumNotReachedError(
            f"round {opened.round_number}: a sum of {len(cutoff.members)} sites is not opened, "
            f"the quorum is {min_sites}"
        )
    if not exchange.exists(receipt_key(opened)):
        receipt = _open(attempt, roster, cutoff, sealed_sum, keys_uri)
        document = receipt.signed(load_signing_key(keys_uri, KEY_HOLDER))
        create_or_read(exchange, receipt_key(opened), document)
    given = read_receipt(exchange.read(receipt_key(opened), limit=1 << 20), opened, attempt.parties)
    read_aggregate(exchange, opened, given)
    return Outcome(
        reference=reference(exchange, receipt_key(opened)),
        manifest={"sites": list(given.members), "sealed_sum": given.sealed_sum, "aggregate": given.aggregate},
        metrics={"sites": float(len(given.members))},
    )


def _open(attempt: Attempt, roster: Roster, cutoff: Cutoff, sealed_sum: str, keys_uri: str) -> Receipt:
    """Adds, compares, decrypts and publishes; the receipt says of what."""
    exchange, ticket, parties = attempt.exchange, attempt.ticket, attempt.parties
    adder = summer(ticket.protection, public_context(keys_uri, ticket.protection, parties))
    total, _ = sum_members(attempt, roster, cutoff, adder)
    if digest(total) != digest(exchange.read(key_of(exchange, sealed_sum), limit=len(total))):
        raise DigestMismatchError(
            f"the sum in {ticket.folder} is not the sum of its members: the aggregator altered it; "
            "it was not opened"
        )
    secret = opener(ticket.protection, _secret_context(keys_uri, ticket.protection, parties))
    values = secret.open(total, sealed_length(attempt))
    content = tensors.encode({"aggregate": values.astype(np.float64)})
    if create_or_read(exchange, aggregate_key(ticket), content) != content:
        raise DigestMismatchError("other values lie in the exchange where the opened sum belongs")
    return Receipt(
        ticket=ticket.digest,
        roster=roster.digest,
        purpose=ticket.purpose,
        members=cutoff.members,
        sealed_sum=digest(total),
        aggregate=digest(content),
        previous=ticket.previous,
    )


def _secret_context(keys_uri: str, name: str, parties: Parties) -> bytes:
    if not parties.contexts.get(name):
        return b""
    path = private_folder(keys_uri, KEY_HOLDER) / f"{name}.secret"
    check_private(path)
    return path.read_bytes()
