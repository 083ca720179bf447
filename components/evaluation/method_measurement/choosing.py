"""Every choice of a comparison, made on validation rows of the first deal: never on test rows.

Each method has a grid of its own, so that no rival is a careless one: rates, rounds, clipping norm, start
and skip connection. The grids are those of `make bench-privacy`, thinned.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from components.agreement.charter import AVERAGE
from components.agreement.methods import DP_FL, OURS
from components.agreement.server_steps import MOMENTUM, SGD
from components.evaluation.method_measurement.configurations import (
    DEEP,
    RATE_WIDTH,
    Configuration,
)
from components.evaluation.method_measurement.experiment import rounds_to, without_validation
from components.evaluation.rehearsal.corpus import Corpus
from components.evaluation.rehearsal.plans import DELTA, SAMPLE_RATE, Plan
from components.privacy.local_schedule import local_noise_multiplier

FIRST_SEED: Final = 1
NEAR: Final = 0.97
"""Of the best validation accuracy that any plan of a method reaches: a deep plan is chosen for how soon it is
there, and then for where it ends."""
_AVERAGING_ROUNDS: Final = 30
_DEEP_ROUNDS: Final = 40
_SCHEDULES: Final[tuple[tuple[float, str, tuple[int, ...], tuple[float, ...]], ...]] = (
    (0.5, SGD, (8, 15), (60.0, 110.0, 200.0)),
    (1.0, SGD, (15, 25), (110.0, 160.0, 240.0)),
    (2.0, MOMENTUM, (15, 25), (200.0, 350.0, 500.0)),
    (4.0, MOMENTUM, (20, 40), (350.0, 600.0, 1000.0)),
    (math.inf, MOMENTUM, (30, 60), (500.0, 900.0, 1400.0)),
)
_START: Final = 0.3
_LOCAL_NORM: Final = 4.0
_LOCAL_SHAPES: Final = ((60, 1), (60, 2), (20, 2), (60, 4))
_LOCAL_PACES: Final = (0.8, 1.6, 3.2)


def chosen_plan(configuration: Configuration, corpus: Corpus) -> dict[str, Any]:
    """The plan that does best on validation rows, and what each did.

    Args:
        configuration: of kind `choice`.
        corpus: whose validation rows decide.
    """
    deal, validation = without_validation(
        corpus,
        sites=configuration["sites"],
        concentration=configuration["concentration"],
        seed=FIRST_SEED,
    )
    deep = configuration["purpose"] == DEEP
    plans = [_with_noise(plan) for plan in _thinned(list(candidates(configuration)), configuration["tries"])]
    curves = [deal.curve(plan, seed=FIRST_SEED, examples=validation) for plan in plans]
    best = max(max(curve, default=0.0) for curve in curves)
    scores = [_score(curve, best, deep=deep) for curve in curves]
    place = max(range(len(plans)), key=lambda number: scores[number])
    tried = [
        {
            "plan": plan.to_dict(),
            "accuracy": curve[-1] if curve else 0.0,
            "rounds_to_near": rounds_to(curve, NEAR * best),
        }
        for plan, curve in zip(plans, curves, strict=True)
    ]
    return {"plan": plans[place].to_dict(), "tried": tried}


def candidates(configuration: Configuration) -> Iterator[Plan]:
    """The grid of a method, the likeliest first. The noise of DP-FL is found later: that takes seconds."""
    method, epsilon = configuration["method"], configuration["epsilon"]
    if configuration["purpose"] == DEEP:
        yield from {OURS: _deep_ours, DP_FL: _deep_local}.get(method, _deep_averaging)(epsilon)
    elif method == OURS:
        yield from _ours(epsilon)
    elif method == DP_FL:
        yield from _local(epsilon)
    else:
        for rate in (0.05, 0.02, 0.1):
            yield Plan(method=method, rounds=_AVERAGING_ROUNDS, learning_rate=rate, batch_size=32)


def _score(curve: list[float], best: float, *, deep: bool) -> float:
    """What a plan is chosen for: where it ends; of a deep one, first how soon it is near the best."""
    if not curve:
        return -math.inf
    if not deep:
        return curve[-1]
    soon = rounds_to(curve, NEAR * best)
    return curve[-1] - (soon if soon is not None else 10 * len(curve))


def _ours(epsilon: float) -> Iterator[Plan]:
    """Little noise carries more rounds and a longer way.

    Noise adds up to the same for the same way, whatever the number of plain steps that it is made of: the
    way, from which the rate follows, is what has to fit epsilon.
    """
    _, optimizer, lengths, ways = next(found for found in _SCHEDULES if epsilon <= found[0])
    for way, rounds, start in itertools.product(ways, reversed(lengths), (_START, 0.0)):
        travel = rounds if optimizer == SGD else 10 * rounds - 90 * (1 - 0.9**rounds)
        yield Plan(
            method=OURS,
            epsilon=epsilon,
            rounds=rounds,
            learning_rate=way / travel,
            optimizer=optimizer,
            start_fraction=start,
        )


def _local(epsilon: float) -> Iterator[Plan]:
    for (rounds, steps), pace in itertools.product(_LOCAL_SHAPES, _LOCAL_PACES):
        yield Plan(
            method=DP_FL,
            epsilon=epsilon,
            rounds=rounds,
            learning_rate=pace * (2 if epsilon > 1 else 1) / _LOCAL_NORM,
            max_grad_norm=_LOCAL_NORM,
            local_steps=steps,
        )


def _deep_ours(epsilon: float) -> Iterator[Plan]:
    for rounds, rate in itertools.product((8, 12), (6.0, 3.0, 1.5)):
        yield Plan(
            method=OURS,
            epsilon=epsilon,
            rounds=rounds,
            learning_rate=rate,
            optimizer=MOMENTUM,
            start_fraction=_START,
            max_grad_norm=2.5,
            hidden_units=RATE_WIDTH,
            skip=True,
        )


def _deep_local(epsilon: float) -> Iterator[Plan]:
    for pace, steps, skip in itertools.product((3.2, 6.4, 1.6), (1, 2), (True, False)):
        yield Plan(
            method=DP_FL,
            epsilon=epsilon,
            rounds=60,
            learning_rate=pace / _LOCAL_NORM,
            max_grad_norm=_LOCAL_NORM,
            local_steps=steps,
            hidden_units=RATE_WIDTH,
            skip=skip,
        )


def _deep_averaging(_: float | None) -> Iterator[Plan]:
    for rate, skip in itertools.product((0.05, 0.1, 0.02), (True, False)):
        yield Plan(
            method="fedavg",
            rounds=_DEEP_ROUNDS,
            learning_rate=rate,
            batch_size=32,
            hidden_units=RATE_WIDTH,
            skip=skip,
            optimizer=AVERAGE,
        )


def _with_noise(plan: Plan) -> Plan:
    """The plan; one of DP-FL with the noise that its ε asks of every step, by privacy loss distributions."""
    if plan.method != DP_FL:
        return plan
    sigma = local_noise_multiplier(
        plan.epsilon or 0.0,
        delta=DELTA,
        sample_rate=SAMPLE_RATE,
        steps=plan.rounds * plan.local_steps,
    )
    return replace(plan, noise_multiplier=sigma)


def _thinned(plans: list[Plan], tries: int) -> list[Plan]:
    """At most so many, spread over the grid."""
    if len(plans) <= tries:
        return plans
    return [plans[round(number * (len(plans) - 1) / max(1, tries - 1))] for number in range(tries)]
