"""Commits a round: Eq. 6, w⁺ = w + Σ nᵢ·Δwᵢ / Σ nᵢ, once."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from components.agreement.attempt import Attempt
from components.agreement.charter import COORDINATOR
from components.agreement.cutoff import end_attempt
from components.agreement.model_store import model_key, read_committed
from components.agreement.receipt import opened_sum, read_aggregate, read_receipt
from components.agreement.replaced_keys import charter_signing_key
from components.agreement.server_optimizer import next_model
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import create_or_read, key_of, open_store, reference
from components.errors import IntegrityError, ObjectExistsError, RoundAlreadyCommittedError
from components.execution.outcome import Outcome
from components.rounds.proof import keep_proof
from components.rounds.round_opening.opening import COMMITTED
from components.rounds.state import RoundRecord, checkpoint_key, read_record, round_key


def commit_round(
    *, receipt: str, ticket: str, stage: str, state_uri: str, exchange_uri: str, keys_uri: str
) -> Outcome:
    """Makes the next global model from the opened sum and commits it.

    Args:
        receipt: reference of the key holder's receipt.
        ticket: reference of the ticket.
        stage: as `open_round` found the round; a round that was committed then is passed on.
        state_uri: store of the committed rounds.
        exchange_uri: store that all parties read; the model and the signed record go there too.
        keys_uri: folder of the public keys.

    Raises:
        RoundAlreadyCommittedError: another run committed this round while this one worked.
        IntegrityError: receipt, aggregate or model are not what their signatures and digests say.
    """
    attempt = Attempt.open(ticket, exchange_uri=exchange_uri, keys_uri=keys_uri)
    state, exchange = open_store(state_uri), attempt.exchange
    commit_key = round_key(attempt.ticket.round_number, "round.json")
    published = f"{attempt.ticket.folder}/committed.json"
    if stage != COMMITTED:
        if state.exists(round_key(attempt.ticket.round_number, "void.json")):
            raise IntegrityError(
                f"round {attempt.ticket.round_number} was declared void while this run worked: run again"
            )
        record, content = _next_round(attempt, receipt)
        with contextlib.suppress(ObjectExistsError):
            exchange.create(model_key(record.model), content)
        with contextlib.suppress(ObjectExistsError):
            state.create(checkpoint_key(record), content)
        keep_proof(attempt, state)
        try:
            signing_key = charter_signing_key(keys_uri, COORDINATOR, attempt.charter)
            state.create(commit_key, record.signed(signing_key))
        except ObjectExistsError:
            raise RoundAlreadyCommittedError(
                f"round {record.round_number} of {record.federation} was committed by another run while this "
                "one worked: its model stands, this run's is dropped; run again for the next round"
            ) from None
    document = create_or_read(exchange, published, state.read(commit_key, limit=1 << 20))
    committed = read_record(document, attempt.charter)
    return Outcome(
        reference=reference(exchange, published),
        manifest={
            "round": committed.round_number,
            "model": committed.model,
            "sites": list(committed.members),
        },
        metrics={"round": float(committed.round_number), "sites": float(len(committed.members))},
    )


def _next_round(attempt: Attempt, receipt: str) -> tuple[RoundRecord, bytes]:
    """The record that would be the commit, and the model's bytes."""
    exchange, ticket = attempt.exchange, attempt.ticket
    document = exchange.read(key_of(exchange, receipt), limit=1 << 20)
    given = read_receipt(document, ticket, attempt.charter)
    total = opened_sum(read_aggregate(exchange, ticket.folder, given))
    parent = read_committed(exchange, ticket.model)
    roster = attempt.roster()
    cutoff = attempt.cutoff(roster)
    try:
        content = tensors.encode(
            next_model(
                attempt.charter,
                parent,
                total,
                round_number=ticket.round_number,
                members=len(given.members),
            )
        )
    except IntegrityError:
        end_attempt(exchange, ticket, cutoff)
        raise
    if (given.roster, given.cutoff, given.members) != (roster.digest, cutoff.digest, cutoff.members):
        raise IntegrityError(f"the receipt in {ticket.folder} is not of the sites of its cut-off")
    record = RoundRecord(
        charter=ticket.charter,
        federation=ticket.federation,
        round_number=ticket.round_number,
        attempt=ticket.attempt,
        ticket=ticket.digest,
        folder=ticket.folder,
        receipt=digest(document),
        parent=ticket.model,
        model=digest(content),
        members=given.members,
        left_out={**roster.left_out, **cutoff.left_out},
        committed_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return record, content
