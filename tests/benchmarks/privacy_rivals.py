"""What `ours` is measured against: DP-FL, and the same head without a federation and without privacy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from components.training import heads
from components.training.features import Examples
from components.training.local_training.dp_sgd import epsilon_spent, local_dp_update, noise_multiplier_for
from components.training.local_training.federated_averaging import local_update
from tests.benchmarks.privacy_methods import DELTA

SAMPLE_RATE = 1 / 4


@dataclass(frozen=True, kw_only=True)
class LocalPlan:
    """What a federation can choose of DP-FL; rates and norms are for features of norm √384."""

    rounds: int
    steps: int
    learning_rate: float
    max_grad_norm: float


@dataclass(frozen=True, kw_only=True)
class CentralPlan:
    """Minibatch SGD on all rows in one place."""

    learning_rate: float
    epochs: int


def local_noise(plan: LocalPlan, epsilon: float) -> float:
    """σ of every local step, by the PRV accountant; the same at every site."""
    steps = plan.rounds * plan.steps
    return noise_multiplier_for(epsilon, delta=DELTA, sample_rate=SAMPLE_RATE, steps=steps)


def local_price(plan: LocalPlan, epsilon: float) -> dict[str, float]:
    """What a site's releases cost by PRV, with their noise."""
    noise, steps = local_noise(plan, epsilon), plan.rounds * plan.steps
    priced = epsilon_spent(noise, sample_rate=SAMPLE_RATE, steps=steps, delta=DELTA)
    return {"epsilon": priced, "noise_multiplier": noise, "sample_rate": SAMPLE_RATE}


def dp_fl(
    plan: LocalPlan, noise_multiplier: float, genesis: heads.Head, sites: Sequence[Examples], seed: int
) -> Iterator[heads.Head]:
    """The global model after every round; sites count alike, as their numbers of rows are private."""
    model = genesis
    seeds = np.random.SeedSequence(seed).generate_state(plan.rounds * len(sites)).reshape(plan.rounds, -1)
    for drawn in seeds:
        updates = [
            local_dp_update(
                model,
                examples,
                steps=plan.steps,
                sample_rate=SAMPLE_RATE,
                learning_rate=plan.learning_rate,
                max_grad_norm=plan.max_grad_norm,
                noise_multiplier=noise_multiplier,
                device="cpu",
                seed=int(own),
                engine="closed_form",
            )
            for examples, own in zip(sites, drawn, strict=True)
        ]
        model = {
            name: (values + sum(update[name] for update in updates) / len(updates)).astype(np.float32)
            for name, values in model.items()
        }
        yield model


def centralised(plan: CentralPlan, genesis: heads.Head, pooled: Examples, seed: int) -> Iterator[heads.Head]:
    """The same head without privacy on all rows in one place, after every epoch of minibatch SGD."""
    model = genesis
    for epoch in range(plan.epochs):
        update = local_update(
            model,
            pooled,
            local_epochs=1,
            learning_rate=plan.learning_rate,
            batch_size=64,
            seed=1000 * seed + epoch,
            device="cpu",
        )
        model = {name: (model[name] + update[name]).astype(np.float32) for name in model}
        yield model
