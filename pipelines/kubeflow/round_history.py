"""What the state store tells of a federation's rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from components.agreement.charter import Charter
from components.agreement.charter_book import charter_in_force
from components.artifacts.stores import Store, open_store
from components.errors import IntegrityError
from components.rounds.state import (
    committed_rounds,
    is_finished,
    next_round_number,
    record_of,
    round_key,
)
from pipelines.console import round_figures
from pipelines.federation import Federation
from pipelines.privacy_standing import standings
from pipelines.taking_back import rounds_taken_back

_LARGEST_REPORT = 64 << 20


@dataclass(frozen=True, kw_only=True)
class CommittedRound:
    """One round in the state.

    Attributes:
        round_number: from 1.
        committed_at: UTC, ISO 8601.
        members: sites in the sum.
        left_out: reason by site that is not.
        finished: whether its report is there.
        accuracy: of the global model, pooled over the published test rows or from a sealed sum of counts;
            None if neither is there.
        half_width: of 95 % of what noise may have done to it; 0 where it is exact.
        epsilon_spent: by the schedule of noise so far, as the coordinator counts it; None without noise.
        epsilon_left: of the schedule's target.
        taken_back: whether a later edition of the charter went back to a model before it.
    """

    round_number: int
    committed_at: str
    members: tuple[str, ...]
    left_out: Mapping[str, str]
    finished: bool
    accuracy: float | None = None
    half_width: float = 0.0
    epsilon_spent: float | None = None
    epsilon_left: float | None = None
    taken_back: bool = False


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What is left of the budget of a site whose ledger lies on this machine."""

    site: str
    epsilon_spent: float
    epsilon_left: float
    rounds_left: int


@dataclass(frozen=True, kw_only=True)
class History:
    """Where a federation stands.

    Attributes:
        rounds: the newest committed ones, ascending.
        committed: how many there are in all.
        next_round: number of the round to come.
        budgets: by the ledgers on this machine, in a federation with noise.
    """

    rounds: tuple[CommittedRound, ...]
    committed: int
    next_round: int
    budgets: tuple[Budget, ...]


def history(federation: Federation, *, most: int, now: datetime) -> History:
    """Reads the state and the ledgers; each round's record is verified.

    Args:
        federation: whose they are.
        most: newest rounds that are told one by one.
        now: time of the budgets.

    Raises:
        StoreError: the state cannot be read.
        IntegrityError: it was altered.
    """
    state = open_store(federation.state_uri)
    numbers = committed_rounds(state)
    if not numbers:
        return History(rounds=(), committed=0, next_round=next_round_number(state), budgets=())
    charter = charter_in_force(federation.keys_uri)
    undone = rounds_taken_back(federation, charter)
    rounds = tuple(
        replace(_round(state, federation, charter, number), taken_back=number in undone)
        for number in numbers[-most:]
    )
    found = standings(federation, charter, now=now) if charter.privacy else []
    return History(
        rounds=rounds,
        committed=len(numbers),
        next_round=next_round_number(state),
        budgets=tuple(
            Budget(
                site=each.site,
                epsilon_spent=each.statement.epsilon_spent,
                epsilon_left=each.statement.epsilon_left,
                rounds_left=each.rounds_left,
            )
            for each in found
        ),
    )


def _round(state: Store, federation: Federation, charter: Charter, number: int) -> CommittedRound:
    record = record_of(
        state.read(round_key(number, "round.json"), limit=1 << 20), federation.keys_uri, charter
    )
    common = CommittedRound(
        round_number=number,
        committed_at=record.committed_at,
        members=record.members,
        left_out=record.left_out,
        finished=is_finished(state, number),
    )
    if not common.finished:
        return common
    try:
        report = json.loads(state.read(round_key(number, "report.json"), limit=_LARGEST_REPORT))
        figures = round_figures(report, 0.0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise IntegrityError(
            f"the report of round {number} at {federation.state_uri} is not in the form this version knows"
        ) from None
    return CommittedRound(
        round_number=number,
        committed_at=record.committed_at,
        members=record.members,
        left_out=record.left_out,
        finished=True,
        accuracy=figures.accuracy,
        half_width=figures.half_width,
        epsilon_spent=figures.epsilon_spent,
        epsilon_left=figures.epsilon_left,
    )
