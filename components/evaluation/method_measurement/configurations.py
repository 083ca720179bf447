"""Which measurements a comparison consists of: every figure as a list of configurations.

A configuration is one JSON object that says all that its outcome depends on, but for the corpus and the
choices that were made on validation rows before it. Outcomes are kept under its digest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from components.agreement.methods import COMPARED, DP_FL, OURS
from components.errors import UsageError
from components.evaluation.rehearsal.corpus import LANGUAGE_MODEL, WORDS

Configuration = dict[str, Any]

PROTECTION, HIDDEN_UNITS, LEARNING_RATE = "protection", "hidden-units", "learning-rate"
COSTS, MIGRATION = "costs", "migration"
FIGURES: Final = (PROTECTION, HIDDEN_UNITS, LEARNING_RATE, COSTS, MIGRATION)
CHOICE, CENTRALISED, LIKELIHOOD_RATIO, CONVERGENCE = (
    "choice",
    "centralised",
    "likelihood-ratio",
    "convergence",
)
LINEAR, DEEP = "linear", "deep"
"""Heads that choices are made for: a linear one at every ε, one with hidden units at `DEEP_EPSILON`."""
PRIVATE: Final = (DP_FL, OURS)
"""Methods that have an ε."""
AVERAGING: Final = "fedavg"
"""What the other averaging methods share their choices with: they train alike and differ in the seal."""
EPSILONS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
SHADOW_EPSILONS: Final = (1.0, 8.0)
DEEP_EPSILON: Final = 4.0
CONCENTRATIONS: Final = (0.1, 0.5)
WIDTHS: Final = (32, 64, 128, 256, 512)
WORD_WIDTHS: Final = (32, 128, 512)
"""Without a language model."""
ENCRYPTED: Final = "he-fl"
"""What takes longest: CKKS of every weight, every round."""
RATES: Final = (0.001, 0.003, 0.01, 0.03, 0.1)
RATE_WIDTH: Final = 128
MOST_ROUNDS: Final = 60
CANARIES: Final = 10_000
SHADOWS: Final = 16


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What is asked of a comparison.

    Attributes:
        figures: of `FIGURES`.
        methods: of `COMPARED`.
        seeds: one repetition each.
        quick: every method, attack and figure, but fewer settings, rounds and rows.
        sites: among which the rows are dealt, from 2.

    Raises:
        UsageError: a figure or method is unknown, or there are too few sites or no seeds.
    """

    figures: tuple[str, ...] = FIGURES
    methods: tuple[str, ...] = COMPARED
    seeds: tuple[int, ...] = (1, 2, 3)
    quick: bool = False
    sites: int = 4

    def __post_init__(self) -> None:
        for kind, asked, known in (("figure", self.figures, FIGURES), ("method", self.methods, COMPARED)):
            unknown = [name for name in asked if name not in known]
            if unknown or not asked:
                told = f"unknown {kind} {unknown[0]!r}" if unknown else f"no {kind} is asked for"
                raise UsageError(f"{told}: known are {', '.join(known)}")
        if self.sites < 3:
            raise UsageError(
                f"a comparison needs at least 3 sites, of which one may collude, got {self.sites}"
            )
        if not self.seeds:
            raise UsageError("a comparison needs at least one seed, got none")


def stages(scope: Scope) -> list[list[Configuration]]:
    """The configurations of a scope: a stage needs the outcomes of those before it.

    Within a stage any order will do; the heaviest come first, so that no core waits at the end.
    """
    first = _unique([*_choices(scope), *_centralised(scope)])
    makers = {
        PROTECTION: _protection,
        HIDDEN_UNITS: _hidden_units,
        LEARNING_RATE: _learning_rate,
        COSTS: _costs,
        MIGRATION: _migration,
    }
    second = _unique(
        [found for figure in FIGURES if figure in scope.figures for found in makers[figure](scope)]
    )
    return [sorted(stage, key=cost_of, reverse=True) for stage in (first, second) if stage]


def figures_of(configuration: Configuration) -> tuple[str, ...]:
    """The figures that a configuration serves."""
    kind = configuration["kind"]
    if kind == CHOICE and configuration["purpose"] == DEEP:
        return (HIDDEN_UNITS, LEARNING_RATE, COSTS)
    if kind == CHOICE:
        return (PROTECTION, MIGRATION)
    if kind == CENTRALISED:
        return (PROTECTION, HIDDEN_UNITS, LEARNING_RATE)
    return {
        PROTECTION: (PROTECTION,),
        LIKELIHOOD_RATIO: (PROTECTION,),
        CONVERGENCE: (configuration.get("figure", HIDDEN_UNITS),),
        COSTS: (COSTS,),
        MIGRATION: (MIGRATION,),
    }[kind]


def cost_of(configuration: Configuration) -> float:
    """Processor seconds that a configuration is expected to take on 10,000 rows and 77 classes."""
    kind, method = str(configuration["kind"]), configuration.get("method", "")
    if kind == CHOICE:
        return 4.0 * int(configuration["tries"])
    if kind == CONVERGENCE:
        slower = 4.0 if method == ENCRYPTED else 1.0
        rounds = 12.0 if method == OURS else float(configuration["rounds"]) / 2
        wide = float(configuration["hidden_units"]) / 512
        words = 2.0 if configuration["features"] == WORDS else 1.0
        return 2.0 + rounds * (0.15 + 0.5 * wide) * slower * words
    if kind == LIKELIHOOD_RATIO:
        return 2.5 * (int(configuration["shadows"]) + len(configuration["seeds"]))
    return {PROTECTION: 25.0, CENTRALISED: 6.0, COSTS: 6.0, MIGRATION: 10.0}[kind]


def _choices(scope: Scope) -> Iterator[Configuration]:
    linear = {PROTECTION, MIGRATION} & set(scope.figures)
    deep = {HIDDEN_UNITS, LEARNING_RATE, COSTS} & set(scope.figures)
    common = {"kind": CHOICE, "sites": scope.sites, "concentration": CONCENTRATIONS[0]}
    for method in dict.fromkeys(_trains_as(method) for method in scope.methods):
        for epsilon in _epsilons(method, scope) if linear else ():
            yield common | {
                "purpose": LINEAR,
                "method": method,
                "epsilon": epsilon,
                "tries": 2 if scope.quick else 12,
            }
        if deep:
            yield common | {
                "purpose": DEEP,
                "method": method,
                "epsilon": DEEP_EPSILON if method in PRIVATE else None,
                "tries": 2 if scope.quick else 12,
            }


def _centralised(scope: Scope) -> Iterator[Configuration]:
    if {PROTECTION, HIDDEN_UNITS, LEARNING_RATE} & set(scope.figures):
        for seed, features in itertools.product(scope.seeds, (LANGUAGE_MODEL, WORDS)):
            if features == LANGUAGE_MODEL or HIDDEN_UNITS in scope.figures:
                yield {
                    "kind": CENTRALISED,
                    "features": features,
                    "epochs": 4 if scope.quick else 30,
                    "seed": seed,
                }


def _protection(scope: Scope) -> Iterator[Configuration]:
    for method, seed in itertools.product(scope.methods, scope.seeds):
        for epsilon in _epsilons(method, scope):
            yield {
                "kind": PROTECTION,
                "method": method,
                "epsilon": epsilon,
                "seed": seed,
                "sites": scope.sites,
                "concentration": CONCENTRATIONS[0],
                "canaries": 1000 if scope.quick else CANARIES,
                "batches": 10 if scope.quick else 60,
                "sealed_rounds": 1 if scope.quick else 3,
            }
    for method in dict.fromkeys(_trains_as(method) for method in scope.methods):
        for epsilon in _epsilons(method, scope):
            if epsilon is None or epsilon in SHADOW_EPSILONS:
                yield {
                    "kind": LIKELIHOOD_RATIO,
                    "method": method,
                    "epsilon": epsilon,
                    "seeds": list(scope.seeds),
                    "sites": scope.sites,
                    "concentration": CONCENTRATIONS[0],
                    "shadows": 4 if scope.quick else SHADOWS,
                }


def _hidden_units(scope: Scope) -> Iterator[Configuration]:
    concentrations = CONCENTRATIONS[:1] if scope.quick else CONCENTRATIONS
    for method, features, concentration in itertools.product(
        scope.methods, (LANGUAGE_MODEL, WORDS), concentrations
    ):
        widths: tuple[int, ...] = WIDTHS
        seeds = scope.seeds
        if features == WORDS:
            # Four times as many inputs, and several times as many rounds: three widths and one seed show it.
            widths, seeds = WORD_WIDTHS, scope.seeds[:1]
            if method == ENCRYPTED and concentration != concentrations[0]:
                continue
        for width, seed in itertools.product((WIDTHS[0], RATE_WIDTH) if scope.quick else widths, seeds):
            yield _convergence(scope, HIDDEN_UNITS, method, seed) | {
                "hidden_units": width,
                "features": features,
                "concentration": concentration,
                "learning_rate": None,
            }


def _learning_rate(scope: Scope) -> Iterator[Configuration]:
    rates = (RATES[0], RATES[-1]) if scope.quick else RATES
    for method, rate, seed in itertools.product(scope.methods, rates, scope.seeds):
        # Sealed averaging makes the models of `fedavg` over again, in as many rounds: one seed shows it.
        if _trains_as(method) != method and seed != scope.seeds[0]:
            continue
        yield _convergence(scope, LEARNING_RATE, method, seed) | {
            "hidden_units": RATE_WIDTH,
            "features": LANGUAGE_MODEL,
            "concentration": CONCENTRATIONS[0],
            "learning_rate": rate,
        }


def _convergence(scope: Scope, figure: str, method: str, seed: int) -> Configuration:
    return {
        "kind": CONVERGENCE,
        "figure": figure,
        "method": method,
        "epsilon": DEEP_EPSILON if method in PRIVATE else None,
        "rounds": 6 if scope.quick else MOST_ROUNDS,
        "seed": seed,
        "sites": scope.sites,
    }


def _costs(scope: Scope) -> Iterator[Configuration]:
    for method in scope.methods:
        yield {
            "kind": COSTS,
            "method": method,
            "epsilon": DEEP_EPSILON if method in PRIVATE else None,
            "hidden_units": RATE_WIDTH,
            "sites": scope.sites,
            "concentration": CONCENTRATIONS[0],
            "repetitions": 1 if scope.quick else 3,
        }


def _migration(scope: Scope) -> Iterator[Configuration]:
    for method, seed in itertools.product(scope.methods, scope.seeds):
        yield {
            "kind": MIGRATION,
            "method": method,
            "epsilon": _migration_epsilon(method, scope),
            "seed": seed,
            "sites": scope.sites,
            "concentration": CONCENTRATIONS[0],
        }


def _migration_epsilon(method: str, scope: Scope) -> float | None:
    known = _epsilons(method, scope)
    return DEEP_EPSILON if DEEP_EPSILON in known else known[-1]


def _epsilons(method: str, scope: Scope) -> tuple[float | None, ...]:
    if method not in PRIVATE:
        return (None,)
    return SHADOW_EPSILONS if scope.quick else EPSILONS


def _trains_as(method: str) -> str:
    """The method whose choices it shares."""
    return method if method in PRIVATE else AVERAGING


def choice_for(configuration: Configuration, purpose: str) -> Configuration:
    """What to look for among the choices that were made before."""
    return {
        "kind": CHOICE,
        "purpose": purpose,
        "method": _trains_as(configuration["method"]),
        "epsilon": configuration["epsilon"],
    }


def _unique(configurations: list[Configuration]) -> list[Configuration]:
    seen: list[Configuration] = []
    for configuration in configurations:
        if configuration not in seen:
            seen.append(configuration)
    return seen
