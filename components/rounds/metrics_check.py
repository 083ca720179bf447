"""Checks the second exchange of a committed round: sealed confusion counts of its model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from components.agreement.charter import Charter
from components.agreement.receipt import Receipt, require_aggregate
from components.agreement.server_optimizer import Committed
from components.agreement.ticket import METRICS, Ticket, read_ticket, releases_metrics
from components.artifacts.stores import Store
from components.errors import SignatureError
from components.rounds.attempt_check import MAX_TICKET_BYTES, AttemptCheck
from components.rounds.proof import proof_key


class MetricsCheck(AttemptCheck):
    """The metrics of a committed round under examination; their receipt is a leaf off the chain."""

    def check(self, update: Ticket, model: Committed | None) -> None:
        """Checks everything that the opened counts rest on.

        Args:
            update: ticket of the round's update.
            model: that the round committed; None if that could not be found out.
        """
        expected = replace(
            update,
            purpose=METRICS,
            void="",
            model=self.record.model,
            previous=self.record.receipt,
            previous_folder=self.record.folder,
        )
        require, number = self.findings.require, update.round_number
        require("ticket", "is not for the metrics of the committed round", kept=self.ticket == expected)
        named = releases_metrics(self.charter, number)
        require("ticket", "the charter sets nothing aside for metrics of this round", kept=named)
        opened = self.check_documents(model)
        if opened.receipt:
            self.findings.checked("counts", partial(self._check_counts, opened.receipt))

    def _check_counts(self, receipt: Receipt) -> None:
        require_aggregate(self.proof, self.ticket.folder, receipt)


def has_metrics(state: Store, round_number: int) -> bool:
    """Whether the state keeps a proof of a round's metrics."""
    return state.exists(proof_key(round_number, "ticket.json", METRICS))


def read_metrics_ticket(state: Store, round_number: int, charter: Charter) -> Ticket:
    """The ticket in the proof of a round's metrics.

    Raises:
        IntegrityError: it is not one of the charter's coordinator for metrics.
    """
    document = state.read(proof_key(round_number, "ticket.json", METRICS), limit=MAX_TICKET_BYTES)
    ticket = read_ticket(document, charter)
    if (ticket.purpose, ticket.round_number) != (METRICS, round_number):
        raise SignatureError(f"is for {ticket.purpose} of round {ticket.round_number}")
    return ticket
