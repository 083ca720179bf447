"""How the opened sum becomes the next global model; every site computes it too, and compares."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from components.agreement.charter import GRADIENT_SUMS, Charter
from components.agreement.server_steps import SERVER_STEPS, initial_state, joined, split, step
from components.artifacts import tensors
from components.errors import IntegrityError

AVERAGE = "average"
SERVER_OPTIMIZERS = (AVERAGE, *SERVER_STEPS)
_ROUNDING = 1.001
_NOISE_DEVIATIONS = 8
"""Noise of d coordinates is longer than √d + 8 deviations with a probability below 1e-14."""

Committed = Mapping[str, NDArray[np.generic]]


def with_state(optimizer: str, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
    """The genesis model as it is committed: its weights, and what the optimiser begins with."""
    return joined(weights, {} if optimizer == AVERAGE else initial_state(optimizer, weights))


def next_model(
    charter: Charter, parent: Committed, aggregate: NDArray[np.float64]
) -> dict[str, NDArray[np.generic]]:
    """Makes a step from a model with an opened sum.

    `average` adds the mean update, Eq. 6: w⁺ = w + Σ nᵢ·Δwᵢ / Σ nᵢ. The other optimisers step down the
    mean gradient Σ g / Σ n under `fedsgd`, and along the mean update as if it were one otherwise.

    Args:
        charter: names algorithm and optimiser, and the norm that no mean of clipped updates exceeds.
        parent: the model the sites started from, with the optimiser's state.
        aggregate: [Σ nᵢ·Δwᵢ, Σ nᵢ], or the gradients' sum and the noisy count; shape (d + 1,).

    Returns:
        What is committed: the next model and the optimiser's state.

    Raises:
        IntegrityError: the aggregate is not finite, has another length, counts no examples, or is
            longer than what the charter lets sites seal: some site sealed something else.
    """
    if charter.server_optimizer not in SERVER_OPTIMIZERS:
        raise IntegrityError(f"server optimiser {charter.server_optimizer!r} is not known to this version")
    if aggregate.ndim != 1 or not aggregate.size:
        raise IntegrityError(f"an opened sum is one vector, got shape {aggregate.shape}")
    if not np.all(np.isfinite(aggregate)):
        raise IntegrityError("the opened sum is not finite: nothing was committed")
    weights, state = split(parent)
    if charter.algorithm == GRADIENT_SUMS:
        gradient = _mean_gradient(charter, aggregate)
    else:
        mean = _mean_update(charter, aggregate)
        if charter.server_optimizer == AVERAGE:
            return joined(_moved(weights, mean), {})
        gradient = -mean
    tensors.unflatten(gradient, weights)
    return joined(*step(charter.server_optimizer, charter.server_learning_rate, weights, gradient, state))


def _mean_update(charter: Charter, aggregate: NDArray[np.float64]) -> NDArray[np.float64]:
    num_examples = float(np.rint(aggregate[-1]))
    if num_examples < 1:
        raise IntegrityError(f"the opened sum must count at least one example, got {num_examples:.0f}")
    mean: NDArray[np.float64] = aggregate[:-1] / num_examples
    if float(np.linalg.norm(mean)) > charter.clipping_norm * _ROUNDING:
        raise IntegrityError(
            "the mean of the opened sum is longer than the charter's clipping norm, "
            f"{charter.clipping_norm:g}: "
            "a site sealed something else than a clipped update; nothing was committed"
        )
    return mean


def _mean_gradient(charter: Charter, aggregate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ g / Σ n, the count being noisy too; one example at the least."""
    if float(np.linalg.norm(aggregate[:-1])) > _longest_gradient_sum(charter, aggregate.size):
        raise IntegrityError(
            "the opened sum is longer than clipped gradients and their noise can be: "
            "a site sealed something else; nothing was committed"
        )
    return aggregate[:-1] / max(1.0, float(aggregate[-1]))


def _longest_gradient_sum(charter: Charter, coordinates: int) -> float:
    """Norm that the sum of all sites' clipped gradients and noise does not exceed."""
    terms = charter.privacy
    if terms is None:
        raise IntegrityError("the charter has gradient sums without noise: nothing was committed")
    shares = len(charter.sites) / (charter.min_sum_sites - charter.colluding_sites)
    sensitivity = math.sqrt(1 + terms.count_weight**2) + (math.sqrt(coordinates) + 2) * 2.0**-20
    deviation = max(terms.noise_multipliers) * sensitivity * math.sqrt(shares)
    noise = deviation * (math.sqrt(coordinates) + _NOISE_DEVIATIONS)
    return charter.clipping_norm * (len(charter.sites) * charter.max_examples * _ROUNDING + noise)


def _moved(weights: tensors.Tensors, mean: NDArray[np.float64]) -> tensors.Tensors:
    update = tensors.unflatten(mean, weights)
    with np.errstate(over="ignore"):
        model = {
            name: (weights[name].astype(np.float64) + update[name]).astype(np.float32) for name in weights
        }
    if not all(np.all(np.isfinite(values)) for values in model.values()):
        raise IntegrityError("the next model is outside the range of float32: nothing was committed")
    return model
