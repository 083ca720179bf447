"""From a target epsilon to the noise of every round.

The schedule is made once, with the charter, and binds all of its rounds. Under `auto` the number of
rounds follows epsilon: little noise carries more rounds. Measured on Banking77 (four sites, linear head):
10 to 20 rounds at epsilon up to 1, 20 at 2, 20 to 60 from 4 on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from components.errors import UsageError
from components.privacy.allowance import EPSILONS, Budget
from components.privacy.zcdp import epsilon, rho_for

AUTO: Final = "auto"
_ROUNDS_BELOW: Final = ((1.0, 10), (4.0, 20))
_MOST_AUTO: Final = 40
_DECIMALS: Final = 6
_MOST_ROUNDS: Final = 100_000
_AUTO_METRICS: Final = 4
_MOST_METRICS: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class PrivacyTerms:
    """What a federation asks for.

    Attributes:
        target_epsilon: cost of all rounds together, from 0.001 to 1000.
        delta: below 1 / public_population.
        public_population: people that the records may be of, as is publicly known, from 1.
        clipping_norm: largest L2 norm of an example's contribution; None where it was not given.
        rounds: number of rounds, from 1, or `auto`.
        min_sum_sites: u_min.
        colluding_sites: t_sites.
        start_fraction: share of the budget for a first round of class sums, from 0, below 1; 0 for none.
        rows_per_unit: rows that one protected unit may have, from 1.
        monthly: whether target and rounds are those of every calendar month.
        metrics_fraction: share of the budget for sealed sums of confusion counts, from 0, at most 0.05; 0 for
            none.
        metrics_every: rounds from one of them to the next, from 1, or `auto` for some four in all.
    """

    target_epsilon: float
    delta: float
    public_population: int
    clipping_norm: float | None
    rounds: int | Literal["auto"]
    min_sum_sites: int
    colluding_sites: int
    start_fraction: float = 0.0
    rows_per_unit: int = 1
    monthly: bool = False
    metrics_fraction: float = 0.0
    metrics_every: int | Literal["auto"] = AUTO

    @property
    def metrics_rounds(self) -> tuple[int, ...]:
        """Rounds of the schedule that have a sum of counts, from 1: the last, and others before it."""
        if not self.metrics_fraction:
            return ()
        rounds, every = self.num_rounds, self.metrics_every
        step = -(-rounds // _AUTO_METRICS) if every == AUTO else every
        return tuple(range(rounds, 0, -step))[::-1]

    @property
    def num_rounds(self) -> int:
        """Rounds of the schedule, the start included."""
        return rounds_for(self.target_epsilon) if self.rounds == AUTO else self.rounds

    def problems(self, budget: Budget | None = None) -> list[str]:
        """Every rule that is broken, one a line; empty where a schedule can be made.

        Args:
            budget: a site's allowance that at least one round must fit in.
        """
        found = [*_target_problems(self), *_round_problems(self)]
        if budget is not None:
            found += [f"budget: {problem}" for problem in budget.problems()]
        if not found and budget is not None:
            least = max(noise_multipliers(self))
            cost = epsilon(self.rows_per_unit**2 / (2 * least**2), budget.delta)
            if cost > budget.epsilon:
                found = [
                    f"budget: epsilon {budget.epsilon:g} is below the cost of one round, {cost:.3g} at delta "
                    f"{budget.delta:g}: raise it, lower target_epsilon or take more rounds"
                ]
        return found


def rounds_for(target_epsilon: float) -> int:
    """The rule of `auto`: 10 rounds below epsilon 1, 20 below 4, 40 from there on."""
    return next((rounds for limit, rounds in _ROUNDS_BELOW if target_epsilon < limit), _MOST_AUTO)


def noise_multipliers(terms: PrivacyTerms) -> tuple[float, ...]:
    """Sigma of every round; together they cost at most the target.

    All rounds share rho alike, but for the start, and what is set aside for metrics. A unit of m rows needs
    m times the noise. Each is rounded up to six decimals, as it stands in the charter. Later months have no
    start: as many of the later rounds may cost no more than the target either.

    Raises:
        UsageError: the terms break a rule: all of them, one a line.
    """
    problems = [*_target_problems(terms), *_round_problems(terms)]
    if problems:
        raise UsageError("\n".join(problems))
    rho = rho_for(terms.target_epsilon, terms.delta) * (1 - terms.metrics_fraction)
    rounds = terms.num_rounds
    if not terms.start_fraction:
        return (_sigma(rho / rounds, terms.rows_per_unit),) * rounds
    start = _sigma(rho * terms.start_fraction, terms.rows_per_unit)
    later = (1 - terms.start_fraction) / (rounds - 1)
    rest = _sigma(rho * (min(later, 1 / rounds) if terms.monthly else later), terms.rows_per_unit)
    return (start, *(rest,) * (rounds - 1))


def metrics_multiplier(terms: PrivacyTerms) -> float:
    """Sigma of every sum of confusion counts: they share what is set aside for them alike.

    Raises:
        UsageError: the terms break a rule, or set nothing aside.
    """
    problems = [*_target_problems(terms), *_round_problems(terms)]
    if problems or not terms.metrics_fraction:
        raise UsageError("\n".join(problems) or "metrics_fraction is 0: nothing is set aside for metrics")
    rho = rho_for(terms.target_epsilon, terms.delta) * terms.metrics_fraction
    return _sigma(rho / len(terms.metrics_rounds), terms.rows_per_unit)


def _sigma(rho: float, rows_per_unit: int) -> float:
    sigma = rows_per_unit / math.sqrt(2 * rho)
    return (math.floor(sigma * 10**_DECIMALS) + 1) / 10**_DECIMALS


def _target_problems(terms: PrivacyTerms) -> Iterator[str]:
    least, most = EPSILONS
    if not least <= terms.target_epsilon <= most:
        yield f"target_epsilon must be from {least:g} to {most:g}, got {terms.target_epsilon}: try 1 to 8"
    if terms.public_population < 1:
        yield f"public_population must be at least 1, got {terms.public_population}: anybody may know it"
    elif not 0 < terms.delta < 1 / terms.public_population:
        yield (
            f"delta must be above 0 and below 1/public_population, {1 / terms.public_population:.3g}, "
            f"got {terms.delta}: choose a tenth of that or less"
        )
    if terms.clipping_norm is None:
        yield "clipping_norm is missing: without a bound on one example's contribution there is no epsilon"
    elif not 0 < terms.clipping_norm < math.inf:
        yield f"clipping_norm must be above 0 and finite, got {terms.clipping_norm}: 1 is usual"


def _round_problems(terms: PrivacyTerms) -> Iterator[str]:
    if terms.min_sum_sites - terms.colluding_sites < 2:
        yield (
            "min_sum_sites less colluding_sites must be at least 2, got "
            f"{terms.min_sum_sites} - {terms.colluding_sites}: noise of one site would have to protect alone"
        )
    if terms.rows_per_unit < 1:
        yield f"rows_per_unit must be at least 1, got {terms.rows_per_unit}: the most rows one unit may have"
    if terms.rounds != AUTO and (type(terms.rounds) is not int or not 1 <= terms.rounds <= _MOST_ROUNDS):
        yield f"rounds must be from 1 to {_MOST_ROUNDS} or {AUTO!r}, got {terms.rounds!r}: 10 to 60 are usual"
    elif not 0 <= terms.start_fraction < 1:
        yield f"start_fraction must be from 0, below 1, got {terms.start_fraction}: 0.2 is usual"
    elif not 0 <= terms.metrics_fraction <= _MOST_METRICS:
        yield f"metrics_fraction must be from 0 to {_MOST_METRICS}, got {terms.metrics_fraction}"
    elif terms.metrics_every != AUTO and (type(terms.metrics_every) is not int or terms.metrics_every < 1):
        yield f"metrics_every must be at least 1 or {AUTO!r}, got {terms.metrics_every!r}"
    elif terms.start_fraction and terms.rounds == 1:
        yield f"start_fraction is {terms.start_fraction}, but the start is the only round: give it 2 or more"
