"""The figures of a round that come from a sealed sum of counts, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.agreement.attempt import Attempt
from components.agreement.model_store import model_shapes
from components.agreement.receipt import MAX_RECEIPT_BYTES, opened_sum, read_aggregate, read_receipt
from components.agreement.released_sum import counts_adapted
from components.agreement.ticket import METRICS, Ticket, metrics_folder
from components.artifacts.stores import key_of
from components.errors import IntegrityError, ObjectMissingError
from components.evaluation.sealed_counts import SealedCounts, counts_of
from components.execution import journal
from components.execution.outcome import disclosed_reason
from components.privacy.accounting import ledger_epsilon
from components.privacy.round_noise import round_event, round_mechanism, shares_noise
from components.rounds.state import RoundRecord


@dataclass(frozen=True, kw_only=True)
class SealedFigures:
    """What a round's second exchange has come to.

    Attributes:
        counts: the opened sum; None where there is none.
        epsilon: what it cost by itself, at the charter's delta; 0 without noise.
        unit: what the counts are of: `row`, or the column whose values are protected.
        reason: why there are no counts though they were asked for; empty otherwise.
    """

    counts: SealedCounts | None = None
    epsilon: float = 0.0
    unit: str = "row"
    reason: str = ""

    def to_dict(self) -> dict[str, Any] | None:
        """As a JSON value; None in a round without metrics."""
        if self.counts is None:
            return {"reason": self.reason} if self.reason else None
        told: dict[str, Any] = {**self.counts.to_dict(), "epsilon": self.epsilon, "unit": self.unit}
        shares = (("accuracy", self.counts.global_share), ("adapted_accuracy", self.counts.adapted_share))
        for name, share in shares:
            told |= {
                name: share.accuracy if share else None,
                f"{name}_half_width": share.half_width if share else None,
            }
        return told


def sealed_figures(
    attempt: Attempt, record: RoundRecord, *, ticket: str, receipt: str, classes: int
) -> SealedFigures:
    """Reads what was opened in the second exchange of a committed round.

    Args:
        attempt: of the round's update.
        record: the committed round.
        ticket: reference of the ticket for metrics, empty in a round without.
        receipt: reference of the receipt, empty where nothing was opened.
        classes: of the federation.
    """
    if not ticket:
        return SealedFigures()
    if not receipt:
        return SealedFigures(reason=_told(attempt) or "too few sites took part")
    exchange, charter = attempt.exchange, attempt.charter
    try:
        of_counts = _ticket(attempt, record, ticket)
        given = read_receipt(
            exchange.read(key_of(exchange, receipt), limit=MAX_RECEIPT_BYTES), of_counts, charter
        )
        opened = opened_sum(read_aggregate(exchange, of_counts.folder, given))
        shapes, number = model_shapes(exchange, of_counts.model), of_counts.round_number
        deviation = epsilon = 0.0
        if shares_noise(charter):
            mechanism = round_mechanism(charter, number, shapes, METRICS)
            deviation = mechanism.sum_deviation(len(given.members))
        if charter.privacy:
            event = round_event(charter, number, shapes, METRICS)
            epsilon = ledger_epsilon([event], charter.privacy.delta)
        counts = counts_of(
            opened,
            classes=classes,
            members=given.members,
            deviation=deviation,
            adapted=counts_adapted(charter),
        )
    except (IntegrityError, ObjectMissingError) as error:
        return SealedFigures(reason=disclosed_reason(error))
    unit = charter.privacy.unit if charter.privacy else "row"
    return SealedFigures(counts=counts, epsilon=epsilon, unit=unit)


def _ticket(attempt: Attempt, record: RoundRecord, reference: str) -> Ticket:
    """The ticket for the metrics of the committed round."""
    exchange_uri = attempt.exchange.uri
    found = Attempt.open(reference, exchange_uri=exchange_uri, keys_uri=attempt.keys_uri).ticket
    if (found.purpose, found.previous) != (METRICS, record.receipt):
        raise IntegrityError("the metrics are those of another round")
    return found


def _told(attempt: Attempt) -> str:
    """Why the exchange came to nothing, as the step said at which it ended."""
    entries = journal.entries(attempt.exchange, metrics_folder(attempt.ticket.folder))
    return next((word for entry in entries if not entry.site for word in entry.findings), "")
