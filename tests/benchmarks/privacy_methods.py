"""`ours`, `one-shot` and `analytic`: sums of clipped contributions that carry one dose of noise.

Every method here gets its sums from a `Sums`. `SealedSums` is what a federation does: every site turns
its sum into integers, adds its own share of exact discrete noise, and the integers are added. `PooledSums`
stands in for it while settings are searched: the same sum in float32 with Gaussian noise of exactly the
mechanism's deviation, several times as fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.agreement.class_sum_head import head_from_class_sums
from components.agreement.ridge_head import gram_length, gram_sensitivity, ridge_head
from components.agreement.server_steps import initial_state, step
from components.privacy.accounting import PldAccountant
from components.privacy.analytic_gaussian import gaussian_sigma
from components.privacy.mechanism import SumMechanism, decoded, noisy_integers
from components.training import heads
from components.training.features import Examples
from components.training.local_training.class_sums import class_sums
from components.training.local_training.clipped_gradients import clipped_gradient_sum, clipped_sum
from components.training.local_training.gram_sums import gram_sums
from tests.benchmarks.banking77 import FEATURE_NORM

DELTA = 1e-5
Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Who adds up, and how many of them noise must survive.

    Attributes:
        sites: K; all of them are in every sum, which is when it carries the most noise.
        min_sum_sites: u_min.
        colluding_sites: t_sites.
    """

    sites: int
    min_sum_sites: int
    colluding_sites: int

    def mechanism(self, clipping_norm: float, noise_multiplier: float, dimensions: int) -> SumMechanism:
        """What one sum is protected by."""
        return SumMechanism(
            clipping_norm=clipping_norm,
            noise_multiplier=noise_multiplier,
            dimensions=dimensions,
            sites=self.sites,
            min_sum_sites=self.min_sum_sites,
            colluding_sites=self.colluding_sites,
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a federation can choose of `fedsgd`; rates and norms are for features of norm √384."""

    optimizer: str
    rounds: int
    learning_rate: float
    max_grad_norm: float
    start_fraction: float
    logit_scale: float = 32.0


@dataclass(frozen=True, kw_only=True)
class GramPlan:
    """What a federation can choose of `analytic`; the ridge in units of `ridge_head`'s own choice of it."""

    hidden_units: int
    cross_weight: float
    ridge: float


class Sums(Protocol):
    """Noisy sums over all sites; `classes` is theirs to say."""

    setting: Setting
    classes: int

    def gradients(self, model: heads.Head, mechanism: SumMechanism) -> tuple[Vector, float]:
        """Clipped gradients and the noisy count."""

    def class_sums(self, mechanism: SumMechanism) -> Vector:
        """Features by class."""


class SealedSums:
    """Every site's own integers with its own share of noise; seeded, as only a benchmark may be."""

    def __init__(self, setting: Setting, sites: Sequence[Examples], classes: int, seed: int) -> None:
        self.setting, self.classes, self._sites = setting, classes, sites
        self._random = np.random.Generator(np.random.PCG64(seed))

    def gradients(self, model: heads.Head, mechanism: SumMechanism) -> tuple[Vector, float]:
        def own(examples: Examples) -> Vector:
            norm = mechanism.clipping_norm
            return clipped_gradient_sum(model, examples, max_grad_norm=norm, device="cpu")

        return self.opened(own, mechanism)

    def class_sums(self, mechanism: SumMechanism) -> Vector:
        def own(examples: Examples) -> Vector:
            return class_sums(examples, classes=self.classes, clipping_norm=mechanism.clipping_norm)

        return self.opened(own, mechanism)[0]

    def opened(self, own: Callable[[Examples], Vector], mechanism: SumMechanism) -> tuple[Vector, float]:
        """What the key holder would open: the sum of what the sites committed to."""
        total = np.zeros(mechanism.dimensions + 1, np.int64)
        for examples in self._sites:
            total += noisy_integers(own(examples), len(examples.labels), mechanism, self._random.bytes)
        return decoded(total, mechanism)


class PooledSums:
    """The stand-in of the search: all rows at once in float32, the noise of all sites at once."""

    def __init__(self, setting: Setting, pooled: Examples, classes: int, seed: int) -> None:
        import torch

        self.setting, self.classes, self._pooled = setting, classes, pooled
        self._features, self._labels = torch.tensor(pooled.features), torch.tensor(pooled.labels)
        self._random = np.random.Generator(np.random.PCG64(seed))

    def gradients(self, model: heads.Head, mechanism: SumMechanism) -> tuple[Vector, float]:
        import torch

        weights = {name: torch.tensor(values) for name, values in model.items()}
        summed = clipped_sum(weights, self._features, self._labels, mechanism.clipping_norm)
        total = np.concatenate([summed[name].numpy().ravel() for name in sorted(summed)])
        deviation = mechanism.sum_deviation(self.setting.sites)
        count = len(self._pooled.labels) + self._random.normal() * deviation / (
            mechanism.count_weight * mechanism.clipping_norm
        )
        return self._noisy(total, deviation), count

    def class_sums(self, mechanism: SumMechanism) -> Vector:
        exact = class_sums(self._pooled, classes=self.classes, clipping_norm=mechanism.clipping_norm)
        return self._noisy(exact, mechanism.sum_deviation(self.setting.sites))

    def _noisy(self, total: NDArray[np.float32] | Vector, deviation: float) -> Vector:
        noise = self._random.standard_normal(total.size, np.float32) * np.float32(deviation)
        return total.astype(np.float64) + noise


def noise_multipliers(plan: Plan, epsilon: float) -> tuple[float, ...]:
    """σ of every round; T Gaussian sums cost what one costs with 1/√Σ 1/σᵢ² (numerically tight)."""
    whole = gaussian_sigma(epsilon, DELTA)
    if not plan.start_fraction:
        return (whole * math.sqrt(plan.rounds),) * plan.rounds
    later = whole * math.sqrt((plan.rounds - 1) / (1 - plan.start_fraction))
    return (whole / math.sqrt(plan.start_fraction), *(later,) * (plan.rounds - 1))


def sum_price(plan: Plan, epsilon: float) -> dict[str, float]:
    """What the rounds' sums cost by privacy loss distributions, with the noise of the first and last."""
    sigmas = noise_multipliers(plan, epsilon)
    priced = PldAccountant().epsilon(
        [
            Setting(sites=2, min_sum_sites=2, colluding_sites=0).mechanism(1.0, sigma, 1).event()
            for sigma in sigmas
        ],
        DELTA,
    )
    return {"epsilon": priced, "first_noise_multiplier": sigmas[0], "last_noise_multiplier": sigmas[-1]}


def rounds_of(plan: Plan, epsilon: float, genesis: heads.Head, sums: Sums) -> Iterator[heads.Head]:
    """The global model after every round of `fedsgd`."""
    model, state = genesis, initial_state(plan.optimizer, genesis)
    dimensions = sum(values.size for values in genesis.values())
    for number, sigma in enumerate(noise_multipliers(plan, epsilon)):
        if not number and plan.start_fraction:
            model = start_of(genesis, sigma, plan.logit_scale, sums)
        else:
            mechanism = sums.setting.mechanism(plan.max_grad_norm, sigma, dimensions)
            total, count = sums.gradients(model, mechanism)
            model, state = step(plan.optimizer, plan.learning_rate, model, total / max(1.0, count), state)
        yield model


def start_of(genesis: heads.Head, sigma: float, logit_scale: float, sums: Sums) -> heads.Head:
    """The model that noisy class sums make, which is all there is of `one-shot`."""
    linear = genesis["skip.weight" if "skip.weight" in genesis else "output.weight"]
    mechanism = sums.setting.mechanism(FEATURE_NORM, sigma, linear.size)
    return head_from_class_sums(
        sums.class_sums(mechanism), head=genesis, logit_scale=logit_scale, feature_norm=FEATURE_NORM
    )


def analytic(epsilon: float, plan: GramPlan, sums: SealedSums, seed: int) -> heads.Head:
    """The ridge solution of noisy Gram sums."""
    public = heads.random_features(round(FEATURE_NORM**2), plan.hidden_units, seed)

    def own(examples: Examples) -> Vector:
        return gram_sums(examples, classes=sums.classes, hidden_weight=public, cross_weight=plan.cross_weight)

    mechanism = sums.setting.mechanism(
        gram_sensitivity(plan.cross_weight),
        gaussian_sigma(epsilon, DELTA),
        gram_length(public.shape[1], plan.hidden_units, sums.classes),
    )
    opened, _ = sums.opened(own, mechanism)
    return ridge_head(
        opened,
        classes=sums.classes,
        hidden_weight=public,
        cross_weight=plan.cross_weight,
        ridge=plan.ridge,
        noise_deviation=mechanism.sum_deviation(sums.setting.sites),
        feature_norm=FEATURE_NORM,
    )


def accuracy(model: Mapping[str, NDArray[np.float32]], examples: Examples) -> float:
    """Share of rows that the model sorts right."""
    return float((heads.logits(model, examples.features).argmax(axis=1) == examples.labels).mean())
