"""The coordinator's copy of what a schedule of noise has cost: for display, and to refuse early.

The sites' own ledgers decide. What is counted here are the tickets that were issued, each of which a
site charges before it reads a row, whether or not its sum was opened.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.agreement.charter import Charter
from components.agreement.model_store import model_shapes
from components.agreement.ticket import METRICS, UPDATE
from components.artifacts.stores import Store
from components.errors import PrivacyBudgetExceededError
from components.privacy.accounting import ledger_epsilon
from components.privacy.round_noise import round_event


@dataclass(frozen=True, kw_only=True)
class PrivacyAccount:
    """Where a schedule stands after a round.

    Attributes:
        epsilon_spent: by all attempts up to and with the round, at delta.
        epsilon_left: of the schedule's target; costs do not add up in epsilon.
        delta: of both.
        releases: attempts, and metrics of attempts, that were charged.
        rounds_left: of the schedule.
    """

    epsilon_spent: float
    epsilon_left: float
    delta: float
    releases: int
    rounds_left: int


def account(exchange: Store, charter: Charter, model: str, *, through: int) -> PrivacyAccount | None:
    """What a charter's schedule has cost up to a round; None where updates are not noised.

    Args:
        exchange: store that all parties read.
        charter: of the round.
        model: SHA-256 of a model of the federation.
        through: number of the round.
    """
    terms = charter.privacy
    if terms is None:
        return None
    shapes = model_shapes(exchange, model)
    events = [
        round_event(charter, number, shapes, purpose)
        for number, purpose in _issued(exchange)
        if terms.first_round <= number <= min(through, terms.last_round)
        if purpose == UPDATE or terms.metrics_in(number)
    ]
    spent = ledger_epsilon(events, terms.delta)
    return PrivacyAccount(
        epsilon_spent=spent,
        epsilon_left=max(0.0, terms.target_epsilon - spent),
        delta=terms.delta,
        releases=len(events),
        rounds_left=max(0, terms.last_round - through),
    )


def require_round_left(charter: Charter, round_number: int) -> None:
    """Passes a round that is in the charter's schedule of noise, or needs none.

    Raises:
        PrivacyBudgetExceededError: the schedule is over.
    """
    terms = charter.privacy
    if terms is not None and terms.noise_multiplier(round_number) is None:
        text = (
            f"round {round_number} is outside the charter's schedule of noise, rounds {terms.first_round} to "
            f"{terms.last_round}: its epsilon of {terms.target_epsilon:g} is spent. More rounds need a new "
            "charter that all sites sign, and room in their privacy budgets"
        )
        raise PrivacyBudgetExceededError(text, disclosed=text)


def _issued(exchange: Store) -> list[tuple[int, str]]:
    """Round number and purpose of all tickets, one for each attempt and one for its metrics."""
    issued = []
    for folder, purpose in (("rounds", UPDATE), ("metrics", METRICS)):
        tickets = (key.split("/")[1] for key in exchange.keys(folder) if key.endswith("/ticket.json"))
        issued += [(int(named.partition("-")[0]), purpose) for named in tickets]
    return sorted(issued)
