"""Bytes and seconds of a round by step: the same vectors through every method's own code."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any, Final

from components.agreement.server_optimizer import next_model, with_state
from components.artifacts import tensors
from components.evaluation.method_measurement.configurations import Configuration
from components.evaluation.method_measurement.experiment import deal_of
from components.evaluation.rehearsal.corpus import Corpus
from components.evaluation.rehearsal.plans import Plan
from components.evaluation.rehearsal.rounds import Rehearsal, accuracy
from components.training import heads
from components.training.adaptation.adaptation import adapted
from components.training.adaptation.closed_form import fit_adaptation

SITE, COORDINATOR = "site", "coordinator"
ROUND: Final = 2
"""Which round is measured: the first of `ours` may sum features by class."""
Steps = dict[tuple[str, str], tuple[float, int]]


def costs(configuration: Configuration, corpus: Corpus, *, plan: Plan) -> dict[str, Any]:
    """Medians over repetitions of what one site, the aggregator, the key holder and the coordinator take.

    Bytes are what a party uploads to the exchange in the step. Starting processes, signatures of tickets
    and rosters, and reading and encoding records are the same for every method and not in it.
    """
    seed = configuration.get("seed", 1)
    deal = deal_of(
        corpus, sites=configuration["sites"], concentration=configuration["concentration"], seed=seed
    )
    plan = replace(plan, method=configuration["method"], hidden_units=configuration["hidden_units"])
    site = next(iter(deal.train))
    found: list[Steps] = []
    for _ in range(configuration["repetitions"]):
        rehearsal = deal.rehearsal(plan, seed=seed)
        rehearsal.round(1)
        steps, model = _round(rehearsal)
        train, test = deal.train[site], deal.test[site]
        steps["adapt", SITE], change = _timed(lambda: _adaptation(model, train, seed))  # noqa: B023
        steps["evaluate", SITE], _ = _timed(
            lambda: [accuracy(each, test) for each in (model, adapted(model, change))]  # noqa: B023
        )
        found.append(steps)
    size = sum(values.size for values in rehearsal.genesis.values())
    return {
        "parameters": size,
        "sites": len(deal.train),
        "repetitions": configuration["repetitions"],
        "steps": [
            {
                "step": step,
                "who": who,
                "seconds": median(steps[step, who][0] for steps in found),
                "bytes": int(median(steps[step, who][1] for steps in found)),
            }
            for step, who in found[0]
        ],
    }


def _round(rehearsal: Rehearsal) -> tuple[Steps, heads.Head]:
    """The second round step by step, and the model it would commit."""
    charter, ticket, model = rehearsal.charter, rehearsal.ticket(ROUND), rehearsal.model
    vectors, seconds = {}, []
    for site, rows in rehearsal.sites.items():
        took, vectors[site] = _seconds(lambda: rehearsal.vector(ticket, model, site, rows))  # noqa: B023
        seconds.append(took)
    made = rehearsal.protected(vectors)
    steps: Steps = {("train", SITE): (median(seconds), 0)}
    for step in made.steps:
        steps[step.step, step.who] = (step.seconds, step.num_bytes)

    def commit() -> bytes:
        opened = rehearsal.decoded(made.opened, ROUND)
        parent = with_state(charter.server_optimizer, model)
        following = next_model(charter, parent, opened, round_number=ROUND, members=len(vectors))
        return tensors.encode(following)

    took, content = _seconds(commit)
    steps["commit round", COORDINATOR] = (took, len(content))
    return steps, model


def _adaptation(model: heads.Head, train: Any, seed: int) -> heads.Head:
    delta = fit_adaptation(
        heads.last_layer(model),
        model["output.bias"],
        heads.penultimate(model, train.features),
        train.labels,
        seed=seed,
    )
    return heads.last_layer_tensors(model, delta.weight_delta) | {"output.bias": delta.bias_delta}


def _timed(work: Callable[[], Any]) -> tuple[tuple[float, int], Any]:
    took, result = _seconds(work)
    return (took, 0), result


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result
