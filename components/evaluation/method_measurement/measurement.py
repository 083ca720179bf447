"""Measures one configuration: looks up what it needs of earlier ones, and hands it to its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.errors import UsageError
from components.evaluation.method_measurement.centre import centralised
from components.evaluation.method_measurement.choosing import chosen_plan
from components.evaluation.method_measurement.configurations import (
    CENTRALISED,
    CHOICE,
    CONVERGENCE,
    COSTS,
    DEEP,
    LIKELIHOOD_RATIO,
    LINEAR,
    MIGRATION,
    PROTECTION,
    Configuration,
    choice_for,
)
from components.evaluation.method_measurement.convergence import convergence
from components.evaluation.method_measurement.costs import costs
from components.evaluation.method_measurement.migration import migration
from components.evaluation.method_measurement.protection import protection
from components.evaluation.method_measurement.shadow_models import likelihood_ratio
from components.evaluation.rehearsal.corpus import Corpus
from components.evaluation.rehearsal.plans import Plan

Records = Sequence[Mapping[str, Any]]
"""Configurations with their outcomes."""


def measure(configuration: Configuration, corpus: Corpus, earlier: Records) -> dict[str, Any]:
    """The outcome of a configuration; the same every time, but for the seconds in it.

    Args:
        configuration: of `configurations.stages`.
        corpus: to be learned from.
        earlier: records of the stages before it.

    Raises:
        BadDataError: the corpus has too few rows for the sites that are asked for.
        UsageError: the kind is unknown, or a choice that it needs was not made.
    """
    kind = configuration["kind"]
    if kind == CHOICE:
        return chosen_plan(configuration, corpus)
    if kind == CENTRALISED:
        return centralised(configuration, corpus)
    if kind == CONVERGENCE:
        reference = _earlier(
            earlier,
            {
                "kind": CENTRALISED,
                "seed": configuration["seed"],
                "features": configuration["features"],
            },
        )
        plan = _plan(earlier, configuration, DEEP)
        return convergence(configuration, corpus, plan=plan, centralised=float(reference["accuracy"]))
    if kind == COSTS:
        return costs(configuration, corpus, plan=_plan(earlier, configuration, DEEP))
    linear = {PROTECTION: protection, LIKELIHOOD_RATIO: likelihood_ratio, MIGRATION: migration}
    if kind not in linear:
        raise UsageError(f"unknown kind of configuration {kind!r}")
    return linear[kind](configuration, corpus, plan=_plan(earlier, configuration, LINEAR))


def _plan(earlier: Records, configuration: Configuration, purpose: str) -> Plan:
    return Plan(**_earlier(earlier, choice_for(configuration, purpose))["plan"])


def _earlier(earlier: Records, wanted: Configuration) -> Mapping[str, Any]:
    """The outcome of the one earlier configuration that has these values.

    Raises:
        UsageError: there is none.
    """
    for record in earlier:
        found = record["configuration"]
        if all(name in found and found[name] == value for name, value in wanted.items()):
            outcome: Mapping[str, Any] = record["outcome"]
            return outcome
    told = ", ".join(f"{name} {value}" for name, value in wanted.items())
    raise UsageError(f"no earlier outcome has {told}: measure the stage before first")
