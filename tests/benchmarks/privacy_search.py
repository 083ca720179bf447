"""Every choice of the privacy benchmark, made on validation rows: rates, rounds, clipping, start, ridge.

A search tries its whole grid on the first seed's split and gives the best few a second look on all seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from components.training import heads
from components.training.features import Examples
from tests.benchmarks.banking77 import Corpus, dealt, is_validation, taken
from tests.benchmarks.privacy_methods import (
    GramPlan,
    Plan,
    PooledSums,
    SealedSums,
    Setting,
    accuracy,
    analytic,
    rounds_of,
)
from tests.benchmarks.privacy_rivals import CentralPlan, LocalPlan, centralised, dp_fl, local_noise
from tests.benchmarks.privacy_settings import QUICK, SEEDS, TARGET

FINALISTS = 3
MAX_EPOCHS = 30

_START = 0.3
_ADAM_RATES = (0.01, 0.02, 0.04)
_DEEP_RATES = {"momentum": (1.5, 3.0, 6.0), "adam": (0.01, 0.03)}
_LITTLE_EPSILON = 1.0
_OTHER_NORMS = (4.0, 16.0)
_CENTRAL_RATES = (0.01, 0.03)
_LOCAL_STEPS = {1: 20, 5: 8, 10: 4, 20: 2, 60: 1}
_LOCAL_PACES = (0.4, 0.8, 1.6, 3.2, 6.4)
_LOCAL_NORMS = (1.0, 4.0, 16.0)

Choice = TypeVar("Choice")


@dataclass(frozen=True, kw_only=True)
class Split:
    """One seed's training rows: those that are learned from and those that choices are made on."""

    seed: int
    fitting: Examples
    validation: Examples
    sites: list[Examples]


def split(corpus: Corpus, sites: int, seed: int) -> Split:
    """The sites are those of the reported runs, less their validation rows."""
    held_out = is_validation(len(corpus.train.labels), seed)
    parts = dealt(corpus.train.labels, sites, seed)
    return Split(
        seed=seed,
        fitting=taken(corpus.train, ~held_out),
        validation=taken(corpus.train, held_out),
        sites=[taken(corpus.train, part[~held_out[part]]) for part in parts],
    )


def ours(corpus: Corpus, setting: Setting, epsilon: float) -> Plan:
    """The most accurate plan of a linear head."""
    splits = _splits(corpus, setting.sites)

    def score(plan: Plan, seen: Split) -> float:
        return _ours_curve(corpus, setting, epsilon, plan, seen, hidden_units=0, skip=False)[-1]

    best = _best(list(_plans(epsilon)), splits, score)
    near = [replace(best, learning_rate=best.learning_rate * factor) for factor in (0.75, 1.33)]
    other = [_with_norm(best, norm) for norm in _OTHER_NORMS]
    return _best([best, *near, *other], splits, score)


def ours_soonest(corpus: Corpus, setting: Setting, epsilon: float, hidden_units: int, skip: bool) -> Plan:
    """The plan of a head with hidden units that reaches 85 % in the fewest rounds; then the most accurate."""
    splits = _splits(corpus, setting.sites)

    def score(plan: Plan, seen: Split) -> float:
        curve = _ours_curve(corpus, setting, epsilon, plan, seen, hidden_units=hidden_units, skip=skip)
        return curve[-1] - (rounds_to(curve) or 2 * plan.rounds)

    lengths = ((10,) if skip else (20,)) if QUICK else ((8, 12) if skip else (10, 20))
    starts = (_START,) if skip else (0.0,)
    return _best(
        [
            Plan(
                optimizer=optimizer,
                rounds=rounds,
                learning_rate=rate,
                max_grad_norm=2.5,
                start_fraction=start,
            )
            for rounds, start, (optimizer, rates) in itertools.product(lengths, starts, _DEEP_RATES.items())
            for rate in rates
        ],
        splits,
        score,
    )


def local(corpus: Corpus, sites: int, epsilon: float) -> LocalPlan:
    """The most accurate plan of DP-FL over rounds, rates and clipping norms; then over local steps."""
    splits = _splits(corpus, sites)

    def score(plan: LocalPlan, seen: Split) -> float:
        genesis = heads.initial(corpus.train.features.shape[1], 0, corpus.classes, seen.seed)
        noise = local_noise(plan, epsilon)
        *_, model = dp_fl(plan, noise, genesis, seen.sites, seen.seed)
        return accuracy(model, seen.validation)

    steps = {rounds: _LOCAL_STEPS[rounds] for rounds in (10, 20)} if QUICK else _LOCAL_STEPS
    norms = _LOCAL_NORMS[:1] if QUICK else _LOCAL_NORMS
    paces = [pace * (2 if epsilon > _LITTLE_EPSILON else 1) for pace in _LOCAL_PACES]
    grid = [
        LocalPlan(rounds=rounds, steps=steps[rounds], learning_rate=pace / norm, max_grad_norm=norm)
        for rounds, pace, norm in itertools.product(steps, paces, norms)
    ]
    first = _ranked(grid, splits[0], score)[:FINALISTS]
    longer = [
        replace(plan, steps=more * plan.steps, learning_rate=plan.learning_rate / slower)
        for plan in first
        for more, slower in ((2, 1), (2, 2), (4, 2), (4, 4))
    ]
    return _best([*first, *longer], splits, score)


def gram(corpus: Corpus, setting: Setting, epsilon: float) -> GramPlan:
    """The most accurate plan of `analytic`, through the real mechanism."""

    def score(plan: GramPlan, seen: Split) -> float:
        sums = SealedSums(setting, seen.sites, corpus.classes, seen.seed)
        return accuracy(analytic(epsilon, plan, sums, seen.seed), seen.validation)

    return _best(
        [
            GramPlan(hidden_units=hidden_units, cross_weight=weight, ridge=ridge)
            for hidden_units, weight, ridge in itertools.product((0, 128), (1.0, 3.0), (0.8, 1.0, 2.0))
        ],
        _splits(corpus, setting.sites),
        score,
    )


def central(corpus: Corpus, hidden_units: int, skip: bool) -> CentralPlan:
    """Learning rate and number of epochs."""
    epochs = MAX_EPOCHS // 2 if hidden_units else MAX_EPOCHS

    def curve(rate: float, seed: int) -> list[float]:
        seen = split(corpus, 1, seed)
        genesis = heads.initial(corpus.train.features.shape[1], hidden_units, corpus.classes, seed, skip)
        plan = CentralPlan(learning_rate=rate, epochs=epochs)
        models = centralised(plan, genesis, seen.fitting, seed)
        return [accuracy(model, seen.validation) for model in models]

    _, rate, place = max(
        (value, rate, place)
        for rate in _CENTRAL_RATES
        for place, value in enumerate(np.mean([curve(rate, seed) for seed in SEEDS], axis=0))
    )
    return CentralPlan(learning_rate=rate, epochs=place + 1)


def rounds_to(curve: Sequence[float]) -> int | None:
    """First round at 85 % or above, from 1; None where there is none."""
    return next((number for number, value in enumerate(curve, 1) if value >= TARGET), None)


def _plans(epsilon: float) -> Iterator[Plan]:
    """Little noise carries more rounds and a longer way.

    Noise adds up to the same for the same way, whatever the number of plain steps that it is made of: the
    way, from which the rate follows, is what has to fit epsilon. Momentum does what more plain steps do.
    """
    lengths, ways = next((lengths, ways) for limit, lengths, ways in _SCHEDULES if epsilon <= limit)
    lengths, starts = (lengths[:2], (0.0,)) if QUICK else (lengths, (0.0, _START))
    optimizers = ("momentum", "adam") if QUICK or epsilon > _LITTLE_EPSILON else ("momentum", "adam", "sgd")
    for optimizer, rounds, start in itertools.product(optimizers, lengths, starts):
        travel = rounds if optimizer == "sgd" else 10 * rounds - 90 * (1 - 0.9**rounds)
        for rate in _ADAM_RATES if optimizer == "adam" else [way / travel for way in ways]:
            yield Plan(
                optimizer=optimizer,
                rounds=rounds,
                learning_rate=rate,
                max_grad_norm=1.0,
                start_fraction=start,
            )


_SCHEDULES: tuple[tuple[float, tuple[int, ...], tuple[float, ...]], ...] = (
    (0.5, (8, 15, 25), (60.0, 110.0, 200.0)),
    (1.0, (15, 25, 40), (110.0, 180.0, 300.0)),
    (2.0, (15, 25, 40), (200.0, 350.0, 600.0)),
    (4.0, (20, 40), (350.0, 600.0, 1000.0)),
    (8.0, (30, 60), (500.0, 900.0, 1600.0)),
)


def _with_norm(plan: Plan, norm: float) -> Plan:
    """Another clipping norm at the same pace; Adam's does not depend on it."""
    rate = plan.learning_rate if plan.optimizer == "adam" else plan.learning_rate / norm
    return replace(plan, max_grad_norm=norm, learning_rate=rate)


def _ours_curve(
    corpus: Corpus,
    setting: Setting,
    epsilon: float,
    plan: Plan,
    seen: Split,
    *,
    hidden_units: int,
    skip: bool,
) -> list[float]:
    genesis = heads.initial(corpus.train.features.shape[1], hidden_units, corpus.classes, seen.seed, skip)
    sums = PooledSums(setting, seen.fitting, corpus.classes, seen.seed)
    models = rounds_of(plan, epsilon, genesis, sums)
    return [accuracy(model, seen.validation) for model in models]


def _splits(corpus: Corpus, sites: int) -> list[Split]:
    return [split(corpus, sites, seed) for seed in SEEDS]


def _best(
    plans: Sequence[Choice], splits: Sequence[Split], score: Callable[[Choice, Split], float]
) -> Choice:
    """Best on average over the splits, among the best few on the first."""
    finalists = _ranked(plans, splits[0], score)[:FINALISTS]
    means = [sum(score(plan, seen) for seen in splits) for plan in finalists]
    return finalists[int(np.argmax(means))]


def _ranked(plans: Sequence[Choice], seen: Split, score: Callable[[Choice, Split], float]) -> list[Choice]:
    scores = [score(plan, seen) for plan in plans]
    return [plans[place] for place in np.argsort(scores, kind="stable")[::-1]]
