"""The coordinator's copy of what a schedule of noise has cost: for display, and to refuse early.

The sites' own ledgers decide. What is counted here are the tickets that were issued, each of which a
site charges before it reads a row, whether or not its sum was opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from components.agreement.charter import Charter
from components.agreement.model_store import model_shapes
from components.agreement.ticket import METRICS
from components.artifacts.stores import Store
from components.errors import PrivacyBudgetExceededError
from components.privacy.accounting import ledger_epsilon
from components.privacy.events import Release
from components.privacy.round_noise import round_event
from components.rounds.monthly_allowance import issued, issued_in, month_of, month_of_round, next_month


@dataclass(frozen=True, kw_only=True)
class PrivacyAccount:
    """Where a schedule stands after a round.

    Attributes:
        epsilon_spent: by all attempts up to and with the round, at delta; under `month` by those of the
            round's calendar month.
        epsilon_left: of the schedule's target; costs do not add up in epsilon.
        delta: of both.
        releases: attempts, and metrics of attempts, that were charged, in the month or in all.
        rounds_left: of the schedule, or of the month.
        month: the calendar month (UTC) that this is of, such as 2026-11; empty for a schedule for good.
        epsilon_ever: by all attempts of all months, at delta.
        unit: whom they are of, in words: a row, or a patient with at most so many rows at a site.
    """

    epsilon_spent: float
    epsilon_left: float
    delta: float
    releases: int
    rounds_left: int
    unit: str
    month: str
    epsilon_ever: float


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
    measured = _measured(exchange)

    def releases(numbers: Sequence[int]) -> list[Release]:
        events = [round_event(charter, number, shapes) for number in numbers]
        counted = sorted(set(numbers) & measured)
        return events + [
            round_event(charter, number, shapes, METRICS) for number in counted if terms.metrics_in(number)
        ]

    ever = [number for number, _ in issued(exchange) if number <= through]
    ever = [number for number in ever if terms.noise_multiplier(number) is not None]
    month = month_of_round(exchange, through) if terms.per == "month" else ""
    counted, left = ever, max(0, terms.last_round - through)
    if terms.per == "month":
        counted = issued_in(exchange, month, first_round=terms.first_round, through=through)
        left = max(0, len(terms.noise_multipliers) - len(counted))
    charged = releases(counted)
    spent = ledger_epsilon(charged, terms.delta)
    return PrivacyAccount(
        epsilon_spent=spent,
        epsilon_left=max(0.0, terms.target_epsilon - spent),
        delta=terms.delta,
        releases=len(charged),
        rounds_left=left,
        month=month,
        epsilon_ever=ledger_epsilon(releases(ever), terms.delta) if terms.per == "month" else spent,
        unit=terms.protected,
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


def rounds_left_in_month(exchange: Store, charter: Charter, *, now: datetime) -> int:
    """How many tickets more the running calendar month has under a schedule per month.

    Args:
        exchange: store that all parties read.
        charter: with such a schedule.
        now: with its time zone.
    """
    terms = charter.privacy
    if terms is None:
        return 0
    used = issued_in(exchange, month_of(now), first_round=terms.first_round)
    return max(0, len(terms.noise_multipliers) - len(used))


def require_month_left(exchange: Store, charter: Charter, round_number: int, *, now: datetime) -> None:
    """Passes a ticket that is to be issued now, where the charter's schedule is that of every month.

    Raises:
        PrivacyBudgetExceededError: the running month has had its rounds; it says when the next begins.
    """
    terms = charter.privacy
    if terms is None or terms.per != "month" or rounds_left_in_month(exchange, charter, now=now):
        return
    month, rounds = month_of(now), len(terms.noise_multipliers)
    text = (
        f"round {round_number} must wait: {month} has had its {rounds} round{'' if rounds == 1 else 's'} for "
        f"epsilon {terms.target_epsilon:g}, attempts that came to nothing included: the next allowance "
        f"starts on {next_month(month):%Y-%m-%d} (UTC)"
    )
    raise PrivacyBudgetExceededError(text, disclosed=text)


def _measured(exchange: Store) -> set[int]:
    """Rounds that a ticket for metrics was issued for."""
    tickets = (key.split("/")[1] for key in exchange.keys("metrics") if key.endswith("/ticket.json"))
    return {int(named.partition("-")[0]) for named in tickets}
