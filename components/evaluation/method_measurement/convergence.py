"""How soon a method is where: rounds and processor seconds to an accuracy, by head or learning rate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from components.agreement.methods import DP_FL, OURS
from components.agreement.server_steps import ADAM
from components.evaluation.method_measurement.configurations import LEARNING_RATE, Configuration
from components.evaluation.method_measurement.experiment import converging, deal_of
from components.evaluation.rehearsal.corpus import Corpus
from components.evaluation.rehearsal.plans import Plan
from components.evaluation.rehearsal.rounds import accuracy

TARGET: Final = 0.85
OF_CENTRAL: Final = 0.95
RATE_ROUNDS: Final = 20
"""Of `ours` where the learning rate is what is looked at: its noise is shared out over so many."""


def convergence(
    configuration: Configuration, corpus: Corpus, *, plan: Plan, centralised: float
) -> dict[str, Any]:
    """Trains until both targets are reached, or the plan's rounds are used up, or training diverges.

    Args:
        configuration: of kind `convergence`.
        corpus: to be learned from.
        plan: chosen on validation rows for a head with hidden units.
        centralised: accuracy of the same features trained in one place.
    """
    asked = plan_of(configuration, plan)
    deal = deal_of(
        corpus,
        sites=configuration["sites"],
        concentration=configuration["concentration"],
        seed=configuration["seed"],
        features=configuration["features"],
    )
    targets = {"85": TARGET, "95_of_central": OF_CENTRAL * centralised}
    curve: list[float] = []
    spent: list[float] = []
    started = time.process_time()
    measuring = 0.0
    for each in converging(deal.rehearsal(asked, seed=configuration["seed"])):
        before = time.process_time()
        curve.append(accuracy(each.after, deal.pooled_test))
        measuring += time.process_time() - before
        spent.append(time.process_time() - started - measuring)
        if curve[-1] >= max(targets.values()):
            break
    return {
        "curve": [round(value, 4) for value in curve],
        **_reached(curve, spent, targets),
        "seconds": spent[-1] if spent else 0.0,
        "rounds_planned": asked.rounds,
        "ended": _ended(curve, asked.rounds, min(targets.values())),
    }


def plan_of(configuration: Configuration, chosen: Plan) -> Plan:
    """The chosen plan with the head, and where it is looked at the learning rate, of a configuration."""
    width, rate = configuration["hidden_units"], configuration["learning_rate"]
    plan = replace(chosen, method=configuration["method"], hidden_units=width)
    most = configuration["rounds"]
    if plan.method == OURS:
        if configuration["figure"] == LEARNING_RATE:
            plan = replace(plan, optimizer=ADAM, rounds=min(RATE_ROUNDS, most), learning_rate=rate)
        return replace(plan, rounds=max(2, min(plan.rounds, most)))
    if rate is not None:
        plan = replace(plan, learning_rate=rate)
    # What noise a step needs was found for all rounds of the plan: fewer of them cost less, not more.
    return replace(plan, rounds=min(plan.rounds, most) if plan.method == DP_FL else most)


def _reached(curve: Sequence[float], spent: Sequence[float], targets: dict[str, float]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, target in targets.items():
        place = next((number for number, value in enumerate(curve) if value >= target), None)
        found[f"rounds_to_{name}"] = None if place is None else place + 1
        found[f"seconds_to_{name}"] = None if place is None else round(spent[place], 3)
    return found


def _ended(curve: Sequence[float], rounds: int, target: float) -> str:
    if curve and max(curve) >= target:
        return "reached"
    return "not reached" if len(curve) == rounds else "diverged"
