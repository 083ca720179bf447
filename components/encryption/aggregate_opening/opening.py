"""Opens the sum of one agreed set of sites, re-added by the key holder himself (Eq. 6)."""

from __future__ import annotations

import contextlib

import numpy as np

from components.agreement.cutoff import read_cutoff
from components.agreement.parties import (
    KEY_HOLDER,
    Parties,
    check_private,
    load_parties,
    load_signing_key,
    private_folder,
)
from components.agreement.receipt import Receipt, aggregate_key, read_aggregate, read_receipt, receipt_key
from components.agreement.roster import read_roster, roster_key
from components.agreement.ticket import read_ticket
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import create_or_read, key_of, open_store, reference
from components.encryption.ciphertext_sum import sealed_length, sum_members
from components.encryption.contexts import public_context
from components.encryption.protection import opener, summer
from components.errors import DigestMismatchError, ObjectExistsError, QuorumNotReachedError
from components.execution.outcome import Outcome


def open_aggregate(sealed_sum: str, *, ticket: str, min_sites: int, exchange_uri: str, keys_uri: str) -> Outcome:
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
    parties, exchange = load_parties(keys_uri), open_store(exchange_uri)
    opened = read_ticket(exchange.read(key_of(exchange, ticket), limit=1 << 16), parties)
    roster = read_roster(exchange.read(roster_key(opened), limit=1 << 20), opened, parties)
    cutoff = read_cutoff(exchange, opened, roster)
    if len(cutoff.members) < min_sites:
        raise QuorumNotReachedError(
            f"round {opened.round_number}: a sum of {len(cutoff.members)} sites is not opened, the quorum is {min_sites}"
        )
    if not exchange.exists(receipt_key(opened)):
        adder = summer(opened.protection, public_context(keys_uri, opened.protection, parties))
        total, _ = sum_members(exchange, opened, roster, cutoff, parties, adder)
        if digest(total) != digest(exchange.read(key_of(exchange, sealed_sum), limit=len(total))):
            raise DigestMismatchError(
                f"the sum in {opened.folder} is not the sum of its members: the aggregator altered it; it was not opened"
            )
        secret = opener(opened.protection, _secret_context(keys_uri, opened.protection, parties))
        values = secret.open(total, sealed_length(exchange, opened))
        content = tensors.encode({"aggregate": values.astype(np.float64)})
        with contextlib.suppress(ObjectExistsError):
            exchange.create(aggregate_key(opened), content)
        kept = exchange.read(aggregate_key(opened), limit=2 * len(content))
        receipt = Receipt(
            ticket=opened.digest,
            roster=roster.digest,
            purpose=opened.purpose,
            members=cutoff.members,
            sealed_sum=digest(total),
            aggregate=digest(_agreeing(kept, content)),
            previous=opened.previous,
        )
        create_or_read(exchange, receipt_key(opened), receipt.signed(load_signing_key(keys_uri, KEY_HOLDER)))
    given = read_receipt(exchange.read(receipt_key(opened), limit=1 << 20), opened, parties)
    read_aggregate(exchange, opened, given)
    return Outcome(
        reference=reference(exchange, receipt_key(opened)),
        manifest={"sites": list(given.members), "sealed_sum": given.sealed_sum, "aggregate": given.aggregate},
        metrics={"sites": float(len(given.members))},
    )


def _agreeing(kept: bytes, content: bytes) -> bytes:
    """The same ciphertext opens to the same values, so what lies there already must be equal."""
    if kept != content:
        raise DigestMismatchError("other values lie in the exchange where the opened sum belongs")
    return kept


def _secret_context(keys_uri: str, name: str, parties: Parties) -> bytes:
    if not parties.contexts.get(name):
        return b""
    path = private_folder(keys_uri, KEY_HOLDER) / f"{name}.secret"
    check_private(path)
    return path.read_bytes()
