"""Checks one committed round against its proof, as each of its parties would have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from components.agreement.charter import Charter
from components.agreement.charter_book import ancestry
from components.agreement.lineage import goes_back
from components.agreement.receipt import MAX_RECEIPT_BYTES, Receipt, opened_sum, read_aggregate, receipt_key
from components.agreement.server_optimizer import Committed, next_model
from components.agreement.ticket import Ticket, check_terms, read_ticket
from components.agreement.void import check_attempt
from components.artifacts import tensors
from components.artifacts.documents import digest
from components.artifacts.stores import Store
from components.errors import DigestMismatchError
from components.rounds.attempt_check import MAX_TICKET_BYTES, AttemptCheck, Opened
from components.rounds.proof import proof_key


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a round must follow from: the last one committed; all empty before the first."""

    receipt: str = ""
    folder: str = ""
    model: str = ""
    snapshot: str = ""
    edition: int = 0
    charter: str = ""


class RoundCheck(AttemptCheck):
    """One committed round under examination."""

    def check(self, before: Standing | None, parent: Committed | None) -> Committed | None:
        """Checks everything the round rests on.

        Args:
            before: where the chain stood; None if that could not be found out.
            parent: the model it starts from; None if that is not to be had.

        Returns:
            The next model as the opened sum and the charter give it, or None if they give none.
        """
        self._check_ticket()
        if before:
            self._check_links(before)
        opened = self.check_documents(parent)
        self._check_record(opened)
        if opened.receipt is None:
            return None
        if parent is None:
            model = self.ticket.model[:12]
            self.findings.add(f"model: cannot be recomputed, the one it starts from, {model}, is not there")
            return None
        return self.findings.checked("model", partial(self._next_model, opened.receipt, parent))

    def _check_ticket(self) -> None:
        ticket, record = self.ticket, self.record
        self.findings.checked("ticket", partial(check_terms, ticket, self.charter))
        editions = ancestry(self.keys_uri, self.charter)
        self.findings.checked("ticket", partial(check_attempt, self.proof, ticket, self.charter, editions))
        same = (ticket.digest, ticket.round_number, ticket.attempt, ticket.folder, ticket.model)
        named = (record.ticket, record.round_number, record.attempt, record.folder, record.parent)
        self.findings.require("ticket", "is not the one that the record names", kept=same == named)

    def _check_links(self, before: Standing) -> None:
        ticket, require = self.ticket, self.findings.require
        follows = (ticket.previous, ticket.previous_folder) == (before.receipt, before.folder)
        require("ticket", "does not follow from the receipt of the last committed round", kept=follows)
        expected = before.model or self.charter.genesis
        source = "the last committed round made" if before.model else "the charter starts from"
        if goes_back(self.charter, before.charter):
            expected = self.charter.restart
            source = f"edition {self.charter.edition} of the charter goes back to"
            known = expected == self.charter.genesis or expected in self.past.models
            require("ticket", f"its edition goes back to {expected[:12]}, which no round made", kept=known)
        require("ticket", f"its model is not the one that {source}", kept=ticket.model == expected)
        earlier = before.edition > self.charter.edition
        require("record", "was committed under an edition before the last round's", kept=not earlier)
        time, then = _time(ticket.snapshot), _time(before.snapshot)
        require(
            "ticket", f"its snapshot, {ticket.snapshot}, is not a time with its zone", kept=time is not None
        )
        if time and then:
            require("ticket", f"its snapshot goes back to {ticket.snapshot}", kept=time >= then)

    def _receipt(self) -> Receipt:
        document = self.proof.read(receipt_key(self.ticket.folder), limit=MAX_RECEIPT_BYTES)
        if digest(document) != self.record.receipt:
            raise DigestMismatchError("is not the one that the record names")
        return super()._receipt()

    def _check_record(self, opened: Opened) -> None:
        roster, cutoff, require, record = opened.roster, opened.cutoff, self.findings.require, self.record
        if roster is None or cutoff is None or opened.receipt is None:
            return
        kept = record.members == cutoff.members
        require("record", "its members are not those of the cut-off", kept=kept)
        kept = dict(record.left_out) == {**roster.left_out, **cutoff.left_out}
        require("record", "leaves out other sites than roster and cut-off", kept=kept)

    def _next_model(self, receipt: Receipt, parent: Committed) -> Committed:
        aggregate = opened_sum(read_aggregate(self.proof, self.ticket.folder, receipt))
        model = next_model(
            self.charter,
            parent,
            aggregate,
            round_number=self.ticket.round_number,
            members=len(receipt.members),
        )
        if digest(tensors.encode(model)) != self.record.model:
            raise DigestMismatchError("is not the one that the opened sum and the charter's optimiser give")
        return model


def read_round_ticket(state: Store, round_number: int, charter: Charter) -> Ticket:
    """The ticket in the proof of a round.

    Raises:
        IntegrityError: it is not one of the charter's coordinator.
        ObjectMissingError: it is not there.
    """
    document = state.read(proof_key(round_number, "ticket.json"), limit=MAX_TICKET_BYTES)
    return read_ticket(document, charter)


def _time(text: str) -> datetime | None:
    """A time with its zone; None if the text is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else None
