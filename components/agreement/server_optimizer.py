"""How the opened sum becomes the next global model; every site computes it too, and compares."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from components.agreement.adaptive_norm import CLIPPING_NORM, next_norm, norm_of
from components.agreement.charter import AVERAGE, RIDGE, Charter
from components.agreement.class_sum_head import head_from_class_sums
from components.agreement.released_sum import (
    CLASS_SUMS,
    GRADIENTS,
    GRAM_SUMS,
    WEIGHTED_UPDATES,
    ReleasedSum,
    adaptive_rule,
    feature_norm,
    released_sum,
    shapes_of,
)
from components.agreement.ridge_head import ridge_head
from components.agreement.server_steps import SERVER_STEPS, initial_state, joined, split, step
from components.artifacts import tensors
from components.errors import IntegrityError

SERVER_OPTIMIZERS = (AVERAGE, *SERVER_STEPS, RIDGE)
_STATELESS = (AVERAGE, RIDGE)
_ROUNDING = 1.001
_NOISE_DEVIATIONS = 8
"""Noise of d coordinates is longer than √d + 8 deviations with a probability below 1e-14."""
_LOGIT_SCALE, _CENTRED_LOGIT_SCALE = 32.0, 16.0
"""Of class sums: features that share a large direction differ by less, so their logits are told louder."""

Committed = Mapping[str, NDArray[np.generic]]


def with_state(optimizer: str, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
    """The genesis model as it is committed: its weights, and what the optimiser begins with."""
    return joined(weights, {} if optimizer in _STATELESS else initial_state(optimizer, weights))


def next_model(
    charter: Charter,
    parent: Committed,
    aggregate: NDArray[np.float64],
    *,
    round_number: int,
    members: int,
) -> dict[str, NDArray[np.generic]]:
    """Makes a step from a model with an opened sum.

    `average` adds the mean update, Eq. 6: w⁺ = w + Σ nᵢ·Δwᵢ / Σ nᵢ. The other optimisers step down the
    mean gradient Σ g / Σ n under `fedsgd`, and along the mean update as if it were one otherwise. Class
    sums and Gram sums are solved for a model of their own: see `class_sum_head` and `ridge_head`. Where
    the clipping norm adapts, that of the next round lies beside the state: see `adaptive_norm`. Under an
    edition that clips to the charter's norm again, it is dropped.

    Args:
        charter: names algorithm and optimiser, and the norm that no mean of clipped updates exceeds.
        parent: the model the sites started from, with the optimiser's state.
        aggregate: [Σ nᵢ·Δwᵢ, Σ nᵢ], or the contributions' sum and the noisy count; shape (d + 1,).
        round_number: the ticket's, which decides what the sum is of.
        members: sites in the sum, each of which has added its share of the noise.

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
    norm = norm_of(charter, state)
    kept = {CLIPPING_NORM: state.pop(CLIPPING_NORM)} if CLIPPING_NORM in state else {}
    released = released_sum(charter, round_number, shapes_of(weights))
    if released.of == WEIGHTED_UPDATES:
        mean = _mean_update(charter, aggregate)
        if charter.server_optimizer == AVERAGE:
            return joined(_moved(weights, mean), {})
        return _stepped(charter, weights, -mean, state)
    _require_possible(charter, released, aggregate)
    rule = adaptive_rule(charter)
    # In units of the round's norm: noise moves the model alike in all rounds, and what the optimiser
    # remembers of earlier ones is of one scale.
    if released.of == GRADIENTS and rule is not None:
        stepped = _stepped(charter, weights, aggregate[:-2] / max(1.0, float(aggregate[-1])), state)
        following = next_norm(rule, norm, *aggregate[-2:].tolist(), first=charter.clipping_norm)
        return stepped | {CLIPPING_NORM: np.array([following])}
    if released.of == GRADIENTS:
        return _stepped(charter, weights, aggregate[:-1] / max(1.0, float(aggregate[-1])), state)
    solved = _solved(charter, released, weights, aggregate[:-1], members)
    return joined(solved, state | kept if rule else state)


def _stepped(
    charter: Charter,
    weights: tensors.Tensors,
    gradient: NDArray[np.float64],
    state: Mapping[str, NDArray[np.float64]],
) -> dict[str, NDArray[np.generic]]:
    tensors.unflatten(gradient, weights)
    return joined(*step(charter.server_optimizer, charter.server_learning_rate, weights, gradient, state))


def _solved(
    charter: Charter,
    released: ReleasedSum,
    weights: tensors.Tensors,
    opened: NDArray[np.float64],
    members: int,
) -> tensors.Tensors:
    """The model that class sums or Gram sums make by themselves."""
    width = weights.get("hidden.weight", weights["output.weight"]).shape[1]
    if released.of == CLASS_SUMS:
        scale = _CENTRED_LOGIT_SCALE if charter.public_corpus else _LOGIT_SCALE
        return head_from_class_sums(opened, head=weights, logit_scale=scale, feature_norm=feature_norm(width))
    if released.of != GRAM_SUMS:
        raise IntegrityError(f"no model is made of {released.of}")
    return ridge_head(
        opened,
        classes=weights["output.bias"].size,
        hidden_weight=weights.get("hidden.weight", np.zeros((0, width), np.float32)),
        cross_weight=charter.cross_weight,
        ridge=charter.ridge,
        noise_deviation=_noise_deviation(charter, released, members),
        feature_norm=feature_norm(width),
    )


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


def _require_possible(charter: Charter, released: ReleasedSum, aggregate: NDArray[np.float64]) -> None:
    """Passes a sum no longer than all sites' clipped contributions and their noise."""
    if aggregate.shape != (released.dimensions + 1,):
        raise IntegrityError(
            f"an opened sum of {released.of} has {released.dimensions + 1} values for this model, "
            f"got shape {aggregate.shape}"
        )
    sites = len(charter.sites)
    deviation = _noise_deviation(charter, released, sites)
    noise = deviation * (math.sqrt(aggregate.size) + _NOISE_DEVIATIONS)
    longest = released.clipping_norm * sites * charter.max_examples * _ROUNDING + noise
    if float(np.linalg.norm(aggregate[:-1])) > longest:
        raise IntegrityError(
            f"the opened sum is longer than {released.of} and their noise can be: "
            "a site sealed something else; nothing was committed"
        )


def _noise_deviation(charter: Charter, released: ReleasedSum, members: int) -> float:
    """Deviation of the noise on every coordinate of a sum of so many sites, of its noisiest round."""
    terms = charter.privacy
    if terms is None:
        raise IntegrityError("the charter has sums of contributions without noise: nothing was committed")
    shares = members / (charter.min_sum_sites - charter.colluding_sites)
    coordinates = released.dimensions + 1
    sensitivity = math.sqrt(1 + terms.count_weight**2) + (math.sqrt(coordinates) + 2) * 2.0**-20
    return max(terms.noise_multipliers) * sensitivity * math.sqrt(shares) * released.clipping_norm


def _moved(weights: tensors.Tensors, mean: NDArray[np.float64]) -> tensors.Tensors:
    update = tensors.unflatten(mean, weights)
    with np.errstate(over="ignore"):
        model = {
            name: (weights[name].astype(np.float64) + update[name]).astype(np.float32) for name in weights
        }
    if not all(np.all(np.isfinite(values)) for values in model.values()):
        raise IntegrityError("the next model is outside the range of float32: nothing was committed")
    return model
