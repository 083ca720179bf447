"""An audit: the mechanism as it is at several epsilons, and deliberately broken ones, run after run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from components.agreement.released_sum import shapes_of
from components.encryption.update_vector import vector_length
from components.errors import UsageError
from components.evaluation.audit.audited_run import Audited, audited_run
from components.evaluation.audit.broken_mechanisms import BROKEN
from components.evaluation.audit.gaussian_bound import mu_epsilon, mu_lower_bound
from components.evaluation.audit.lower_bound import epsilon_lower_bound
from components.evaluation.audit.record import INTACT, AuditRecord, Bounds, Trial
from components.evaluation.audit.site_work import Mechanism, as_agreed
from components.evaluation.measurement_records.machine import machine
from components.images import VERSION

CONFIDENCE: Final = 0.999
EPSILONS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
RUNS: Final = 5
_BOUNDS: Final = 2
_EXCEPTED: Final = 10
"""One run of so many may disagree with the others."""

OnRun = Callable[[Mechanism, int], None]
"""Called before a run, with its number from 1."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is audited.

    Attributes:
        federation: its id.
        at: the federation's terms at an epsilon.
        epsilons: that the intact mechanism is audited at.
        runs: of it at each.
        broken: whether the deliberately broken mechanisms are audited too.
        seed: None for the operating system's randomness.
    """

    federation: str
    at: Callable[[float], Audited]
    epsilons: Sequence[float] = EPSILONS
    runs: int = RUNS
    broken: bool = False
    seed: int | None = None


def audit(asking: Asking, *, on_run: OnRun) -> AuditRecord:
    """Runs all trials.

    Raises:
        UsageError: no epsilon or no run is asked for, or the federation cannot be audited.
    """
    if not asking.epsilons or asking.runs < 1:
        raise UsageError(
            f"an audit needs an epsilon and a run at least, got {list(asking.epsilons)} and {asking.runs}"
        )
    began, skipped, trials, number = time.monotonic(), {}, [], 0
    for mechanism in _mechanisms(asking):
        audited = asking.at(mechanism.epsilon)
        if mechanism.needs and mechanism.needs not in audited.views:
            skipped[mechanism.name] = "no two rounds that follow each other have equal noise"
            continue
        trials.append(_trial(mechanism, audited, _seeds(asking.seed, number, mechanism.runs), on_run))
        number += mechanism.runs
    return AuditRecord(
        federation=asking.federation,
        version=VERSION,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=asking.seed,
        delta=_delta(audited),
        confidence=CONFIDENCE,
        canaries=audited.canaries,
        guesses=audited.guesses,
        sites=len(audited.charter.sites),
        honest=audited.honest,
        values=vector_length(audited.charter, audited.rounds[-1], shapes_of(audited.head)),
        rounds=len(audited.rounds),
        seconds=round(time.monotonic() - began, 1),
        machine=machine(),
        trials=tuple(trials),
        skipped=skipped,
    )


def bounds(
    right: Mapping[str, Sequence[int]], *, guesses: int, canaries: int, delta: float, confidence: float
) -> tuple[Bounds, Bounds]:
    """Lower bounds from all runs together, and the highest of a single run.

    All that is said of the runs together holds with `confidence`, and so does all that is said of one run:
    what may go wrong is divided by the number of views and of bounds (Bonferroni). Runs are independent, so
    if an epsilon is true each of them contradicts it at confidence 1 - a with a chance of a at most, and
    k of N with that of a binomial tail: together they say what the k-th of them says, for the a that makes
    the tail small enough. A tenth of many runs, rounded down, need not agree.

    Args:
        right: right guesses of every run, by view.
        guesses: r of a run.
        canaries: m of a run.
        delta: of the claim.
        confidence: in (0, 1).
    """
    runs = len(next(iter(right.values())))
    chance = (1 - confidence) / (_BOUNDS * len(right))

    def bounded(count: int, sure: float) -> Bounds:
        mu = mu_lower_bound(right=count, guesses=guesses, canaries=canaries, confidence=sure)
        return Bounds(
            gaussian=mu_epsilon(mu, delta),
            any_mechanism=epsilon_lower_bound(
                delta, right=count, guesses=guesses, canaries=canaries, confidence=sure
            ),
        )

    # More right guesses never bound less, whatever the view.
    agreeing = runs - runs // _EXCEPTED
    least = max(sorted(counts, reverse=True)[agreeing - 1] for counts in right.values())
    together = bounded(least, 1 - chance_of_each(runs, agreeing, chance))
    alone = bounded(max(max(counts) for counts in right.values()), 1 - chance)
    return together, alone


def chance_of_each(runs: int, agreeing: int, chance: float) -> float:
    """Largest chance of one run, rounded down, with which so many runs agree by chance at most so often."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        tail = math.fsum(
            math.comb(runs, count) * middle**count * (1 - middle) ** (runs - count)
            for count in range(agreeing, runs + 1)
        )
        low, high = (middle, high) if tail <= chance else (low, middle)
    return low


def _mechanisms(asking: Asking) -> list[Mechanism]:
    intact = [
        Mechanism(name=INTACT, says="", work=as_agreed, epsilon=epsilon, runs=asking.runs)
        for epsilon in asking.epsilons
    ]
    return [*intact, *(BROKEN if asking.broken else ())]


def _seeds(seed: int | None, first: int, runs: int) -> list[int | None]:
    """Of the runs; None where all randomness is the operating system's."""
    return [None if seed is None else seed + first + number for number in range(runs)]


def _trial(mechanism: Mechanism, audited: Audited, seeds: Sequence[int | None], on_run: OnRun) -> Trial:
    delta = _delta(audited)
    found: dict[str, list[int]] = {view: [] for view in audited.views}
    for number, seed in enumerate(seeds, 1):
        on_run(mechanism, number)
        for view, count in audited_run(audited, mechanism.work, seed=seed).items():
            found[view].append(count)
    right = {view: tuple(counts) for view, counts in found.items()}
    together, alone = bounds(
        right, guesses=audited.guesses, canaries=audited.canaries, delta=delta, confidence=CONFIDENCE
    )
    return Trial(
        mechanism=mechanism.name,
        says=mechanism.says,
        claimed=audited.claimed(delta),
        right=right,
        together=together,
        alone=alone,
    )


def _delta(audited: Audited) -> float:
    terms = audited.charter.privacy
    if terms is None:
        raise UsageError("a charter without noise has no epsilon to audit")
    return terms.delta
