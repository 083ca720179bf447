"""Opens the second exchange of a committed round: sealed confusion counts of its model.

The ticket is all but given by the round's: numbers, snapshot and parameters are those of the update's ticket,
the model is the one that its receipt gives. So whoever issues it, and however often, it is the same bytes.
"""

from __future__ import annotations

from dataclasses import replace

from components.agreement.attempt import Attempt
from components.agreement.charter import COORDINATOR
from components.agreement.charter_book import charter_in_force
from components.agreement.replaced_keys import charter_signing_key
from components.agreement.ticket import METRICS, read_ticket, releases_metrics
from components.artifacts.stores import create_or_read, key_of, reference
from components.errors import IntegrityError
from components.execution.outcome import Outcome
from components.rounds.state import read_record


def open_metrics(*, committed: str, ticket: str, exchange_uri: str, keys_uri: str) -> Outcome:
    """Issues the ticket for the metrics of a committed round, or finds it.

    Args:
        committed: reference of the committed round in the exchange.
        ticket: reference of the ticket of its update.
        exchange_uri: store that all parties read.
        keys_uri: folder of the charters.

    Returns:
        The ticket's reference; empty where the charter releases no metrics of this round, or is not in force
        any more: sites would refuse its ticket.

    Raises:
        IntegrityError: the record is not of this ticket, or another ticket lies where this one belongs.
    """
    attempt = Attempt.open(ticket, exchange_uri=exchange_uri, keys_uri=keys_uri)
    exchange, charter, of_round = attempt.exchange, attempt.charter, attempt.ticket
    record = read_record(exchange.read(key_of(exchange, committed), limit=1 << 20), charter)
    if record.ticket != of_round.digest:
        raise IntegrityError(f"the committed round in {of_round.folder} is not of its ticket")
    in_force = charter_in_force(keys_uri).digest == charter.digest
    if not in_force or not releases_metrics(charter, of_round.round_number):
        return Outcome()
    asked = replace(
        of_round,
        purpose=METRICS,
        void="",
        model=record.model,
        previous=record.receipt,
        previous_folder=record.folder,
    )
    key = f"{asked.folder}/ticket.json"
    signed = asked.signed(charter_signing_key(keys_uri, COORDINATOR, charter))
    if read_ticket(create_or_read(exchange, key, signed), charter) != asked:
        raise IntegrityError(f"the ticket in {asked.folder} is not for the metrics of this round")
    return Outcome(reference=reference(exchange, key), manifest={"round": asked.round_number})
